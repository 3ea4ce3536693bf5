/* SPDX-License-Identifier: MIT */
/* The target that carries the plugin; the library itself is built by build.sh from all the files
 * beside this one. */
void mc_preload_target(void);
void mc_preload_target(void)
{
}
