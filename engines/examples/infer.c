/* infer PLAN PACK TASK: the probe of a C program. One black image, and the class it is taken for. */

#include <packnet/packnet.h>
#include <stdio.h>
#include <stdlib.h>

static void expect_ok(packnet_status status) {
    if (status == PACKNET_OK) return;
    fprintf(stderr, "infer: %s\n", packnet_last_error()->line);
    exit(status); /* the exit codes of packnet's commands */
}

int main(int argc, char** argv) {
    if (argc != 4) return fprintf(stderr, "usage: infer PLAN PACK TASK\n"), PACKNET_USAGE;
    packnet_engine* engine;
    expect_ok(packnet_engine_open(argv[1], argv[2], NULL, &engine));
    packnet_facts facts;
    packnet_engine_facts(engine, &facts);

    float* image = calloc((size_t)facts.channels * facts.height * facts.width, sizeof(float));
    float* logits = calloc((size_t)facts.logits, sizeof(float));
    if (!image || !logits) return PACKNET_ENVIRONMENT;
    packnet_answer answer;
    expect_ok(packnet_infer(engine, argv[3], image, 1, logits, (size_t)facts.logits, &answer));

    size_t best = 0;
    for (size_t i = 1; i < answer.classes; ++i) best = logits[i] > logits[best] ? i : best;
    printf("%s: %s\n", answer.task, packnet_class_name(engine, answer.task, best));
    packnet_engine_close(engine);
    free(logits);
    free(image);
    return 0;
}
