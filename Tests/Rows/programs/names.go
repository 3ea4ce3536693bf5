// SPDX-License-Identifier: MIT
package main

/*
#include <stdlib.h>
static void *volatile kept[64];
__attribute__((noinline)) void from_c_part(int index)
{
    kept[index] = malloc(600);
}
*/
import "C"
import "os"

func main() {
	for i := 0; i < 12; i++ {
		C.from_c_part(C.int(i))
	}
	os.Stdout.WriteString("full\n")
	os.Stdin.Read(make([]byte, 1))
}
