/* SPDX-License-Identifier: MIT */
/* Waiting: memory of threads that wait, whose objects others have freed.
 *
 * What others free of a span goes on its `remote` list until the owner looks (span.h). An owner that
 * sleeps, as a main thread that has handed its data to workers, does not: what it made would stay for good.
 * So at a tick whoever wins it goes through the notices of threads that have not looked since the one
 * before, and where every slot of a full span was freed it gives back the span's pages:
 *
 *     remote: all slots --> HELD --pages go, `used` is 0, all is `purged`--> GONE
 *                             '--the owner comes to look--> SEEN --the same, and a new notice--> GONE
 *
 * While all slots are on the one word, nobody can have one or hand one out; so whoever exchanges the word
 * has the span to itself. The owner does not wait: it leaves a span that is HELD, and is told again.
 * When it looks at one that is GONE, it finds a span of its own, empty and purged. A child that is forked by
 * another thread while a span is HELD loses it. */
#ifndef MC_WAITING_H
#define MC_WAITING_H

/* With `all`, of every thread; else of those that have not looked since this was last called. */
void mc_waiting_give_back(int all);

#endif
