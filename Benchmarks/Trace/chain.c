/* SPDX-License-Identifier: MIT */
/* The 64 functions of the chain, made by one macro each. Level 0 calls the leaf.
 *
 * The functions differ in frame size (a few bytes to some hundred). Every sixteenth has an array of
 * variable size, so it keeps a frame pointer, as functions with alloca do: unwinders meet both
 * kinds in real programs, the second rarely. */
#include "chain.h"

#include <stddef.h>

#define FRAME(level, next)                                                                         \
    __attribute__((noinline)) static uint64_t level_##level(const struct mc_chain *chain)          \
    {                                                                                              \
        volatile unsigned char                                                                     \
            room[(level) % 16 == 7 ? 16 + (chain->path & 15) : 8 + (level)*37 % 256];              \
        uint64_t result;                                                                           \
        room[0] = (unsigned char)(level);                                                          \
        if (chain->path >> (level)&1)                                                              \
            result = (next) + 3;                                                                   \
        else                                                                                       \
            result = (next) + 5;                                                                   \
        return result ^ room[0];                                                                   \
    }

FRAME(0, chain->leaf(chain->context))
FRAME(1, level_0(chain))
FRAME(2, level_1(chain))
FRAME(3, level_2(chain))
FRAME(4, level_3(chain))
FRAME(5, level_4(chain))
FRAME(6, level_5(chain))
FRAME(7, level_6(chain))
FRAME(8, level_7(chain))
FRAME(9, level_8(chain))
FRAME(10, level_9(chain))
FRAME(11, level_10(chain))
FRAME(12, level_11(chain))
FRAME(13, level_12(chain))
FRAME(14, level_13(chain))
FRAME(15, level_14(chain))
FRAME(16, level_15(chain))
FRAME(17, level_16(chain))
FRAME(18, level_17(chain))
FRAME(19, level_18(chain))
FRAME(20, level_19(chain))
FRAME(21, level_20(chain))
FRAME(22, level_21(chain))
FRAME(23, level_22(chain))
FRAME(24, level_23(chain))
FRAME(25, level_24(chain))
FRAME(26, level_25(chain))
FRAME(27, level_26(chain))
FRAME(28, level_27(chain))
FRAME(29, level_28(chain))
FRAME(30, level_29(chain))
FRAME(31, level_30(chain))
FRAME(32, level_31(chain))
FRAME(33, level_32(chain))
FRAME(34, level_33(chain))
FRAME(35, level_34(chain))
FRAME(36, level_35(chain))
FRAME(37, level_36(chain))
FRAME(38, level_37(chain))
FRAME(39, level_38(chain))
FRAME(40, level_39(chain))
FRAME(41, level_40(chain))
FRAME(42, level_41(chain))
FRAME(43, level_42(chain))
FRAME(44, level_43(chain))
FRAME(45, level_44(chain))
FRAME(46, level_45(chain))
FRAME(47, level_46(chain))
FRAME(48, level_47(chain))
FRAME(49, level_48(chain))
FRAME(50, level_49(chain))
FRAME(51, level_50(chain))
FRAME(52, level_51(chain))
FRAME(53, level_52(chain))
FRAME(54, level_53(chain))
FRAME(55, level_54(chain))
FRAME(56, level_55(chain))
FRAME(57, level_56(chain))
FRAME(58, level_57(chain))
FRAME(59, level_58(chain))
FRAME(60, level_59(chain))
FRAME(61, level_60(chain))
FRAME(62, level_61(chain))
FRAME(63, level_62(chain))

static uint64_t (*const levels[MC_CHAIN_DEPTH_MAX])(const struct mc_chain *) = {
    level_0,  level_1,  level_2,  level_3,  level_4,  level_5,  level_6,  level_7,
    level_8,  level_9,  level_10, level_11, level_12, level_13, level_14, level_15,
    level_16, level_17, level_18, level_19, level_20, level_21, level_22, level_23,
    level_24, level_25, level_26, level_27, level_28, level_29, level_30, level_31,
    level_32, level_33, level_34, level_35, level_36, level_37, level_38, level_39,
    level_40, level_41, level_42, level_43, level_44, level_45, level_46, level_47,
    level_48, level_49, level_50, level_51, level_52, level_53, level_54, level_55,
    level_56, level_57, level_58, level_59, level_60, level_61, level_62, level_63,
};

uint64_t mc_chain_run(unsigned depth, const struct mc_chain *chain)
{
    return levels[depth - 1](chain) + 1;
}
