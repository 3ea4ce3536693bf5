// SPDX-License-Identifier: MIT
// What of the machine takes C++: exceptions that leave many frames at once.
extern "C" {
#include "machine.h"
}

extern "C" void machine_try(void (*go)(unsigned depth), unsigned depth)
{
    try {
        go(depth);
    } catch (int) {
    }
}

extern "C" void machine_throw()
{
    throw 1;
}
