#include "boundary.h"

#include <new>
#include <system_error>

#include "packnet/error.h"
#include "text.h"

namespace packnet::detail {

void rethrow_as_error(const std::filesystem::path& file) {
    try {
        throw;
    } catch (const Error&) {
        throw;
    } catch (const std::bad_alloc&) {
        throw EnvironmentFault(file.string(), "memory", "as much as it needs", "none left", "use a larger machine");
    } catch (const std::system_error& error) {
        throw EnvironmentFault(file.string(), "the system refused", {}, in_quotes(error.what()));
    } catch (const std::exception& error) {
        throw Error(file.string(), "cannot be worked on", {}, in_quotes(error.what()));
    }
}

}  // namespace packnet::detail
