/**
 * @file
 * What shared libraries show of themselves; everything else in them is hidden.
 */
#ifndef PACKNET_API_H
#define PACKNET_API_H

#define PACKNET_API __attribute__((visibility("default")))

#endif
