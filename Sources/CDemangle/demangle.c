/* SPDX-License-Identifier: MIT */
/* Neither runtime ships a C header for its demangler, so both are declared here: __cxa_demangle as
 * the Itanium C++ ABI writes it, swift_demangle as libswiftCore exports it. */
#include "CDemangle.h"

#include <stdint.h>
#include <string.h>

extern char *__cxa_demangle(const char *name, char *buffer, size_t *size, int *status);
extern char *swift_demangle(const char *name, size_t name_size, char *buffer, size_t *buffer_size,
                            uint32_t flags);

char *mc_demangle(enum mc_language language, const char *name)
{
    int status = 0;
    if (language == MC_LANGUAGE_SWIFT) return swift_demangle(name, strlen(name), NULL, NULL, 0);
    return __cxa_demangle(name, NULL, NULL, &status);
}
