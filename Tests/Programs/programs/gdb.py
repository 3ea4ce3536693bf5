# SPDX-License-Identifier: MIT
"""gdb: the debugger and the program it debugs are both preloaded; breakpoints, calls, a fork."""

NEEDS = ["gdb", "gcc"]
WEIGHT = 3
KILLS = True

PROGRAM = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
struct item { struct item *next; int value; };
static struct item *push_item(struct item *list, int value)
{
    struct item *item = malloc(sizeof *item);
    item->next = list; item->value = value;
    return item;
}
static void *worker(void *p)
{
    char *text = 0;
    for (int i = 0; i < 2000; i++) { text = realloc(text, i + 1); text[i] = 'a' + i % 26; }
    *(int *)p = text[1999]; free(text);
    return 0;
}
int main(void)
{
    struct item *list = 0; int sum = 0, letters[3];
    for (int i = 0; i < 100; i++) list = push_item(list, i);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], 0, worker, &letters[i]);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
    for (struct item *i = list; i; i = i->next) sum += i->value;
    pid_t child = fork();
    if (!child) { free(strdup("child")); exit(3); }
    int status; waitpid(child, &status, 0);
    printf("%d %c %d\n", sum, letters[1], WEXITSTATUS(status));
    while (list) { struct item *next = list->next; free(list); list = next; }
    return 0;
}
"""

SCRIPT = """
set confirm off
set pagination off
set debuginfod enabled off
set width 0
break push_item if value == 42
run
bt
print *list
print list->next->value
python print(sum(len(str(i)) for i in range(20000)))
delete
break worker
continue
bt 1
delete
break waitpid
continue
up
print sum
print list->next->next->value
delete
continue
"""

# A kernel that does not let the debugger write the vector registers refuses these calls, in the
# bare run as well; the program is of no use afterwards.
CALLS = """
set confirm off
set debuginfod enabled off
break push_item if value == 42
run
python
for text in ('(int)strlen("called in the program")', '(long)malloc(100) % 16',
             '(int)strlen((char *)strdup("from gdb"))'):
    try:
        print(text, gdb.parse_and_eval(text))
    except gdb.error as error:
        print(text, error)
end
kill
"""


def run(stage):
    stage.write("p.c", PROGRAM)
    stage.run(["gcc", "-g", "-O0", "-pthread", "p.c", "-o", "p"])
    stage.write("script", SCRIPT)
    stage.write("calls", CALLS)
    addresses = [(r"0x[0-9a-f]+", "ADDR"), (r"LWP \d+", "LWP"), (r"process \d+", "process"),
                 (r"pid=\d+", "pid=N"),
                 (r"Thread ADDR \(LWP\) ?\"?\w*\"?", "Thread"), (r"= -?\d{4,}", "= N"),
                 # The order in which threads come and go is theirs.
                 (r"^\[(New|Switching|Thread|Detaching|Inferior).*\n", ""),
                 (r"^(text|letters|threads|i|p) = .*\n", ""),
                 (r"^#\d+ .* in start_thread.*", "#1"), (r"^Thread \d+ ", "Thread N ")]
    environment = {"DEBUGINFOD_URLS": ""}
    for _ in range(3 if stage.long else 1):
        stage.run(["gdb", "-nx", "-batch", "-x", "script", "./p"], scrub=addresses, limit=90,
                  env=environment)
    stage.run(["gdb", "-nx", "-batch", "-x", "calls", "./p"], scrub=addresses, env=environment)
    stage.run(["./p"])


# gdb's own cache of symbol indexes.
IGNORED_FILES = [r"^\.cache", r"^\.config", r"^\.gdb"]
