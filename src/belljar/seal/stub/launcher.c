/* A program's place holder: starts the program, which lies elsewhere in the prefix, on the prefix's own loader.
 *
 * The whole file is this code, its configuration behind it and one program header (belljar.seal.launcher). It
 * executes the loader with the program as its argument: the process is then the loader's to whoever looks at
 * /proc/self/exe, which is why programs are sealed in another way where that is possible (stub.c).
 */

#include "process.h"

/* NUL-terminated strings: the loader and the program, as paths that begin with a slash and are relative to the
 * launcher's directory; options for the loader, and an empty one; variables ("NAME=") each before the path
 * that it is to have, and an empty one. After the option --argv0 follows the name that was typed. */
struct config {
    char magic[8];
    char words[];
};
extern const struct config config __attribute__((visibility("hidden")));

__asm__(START);

/* What the host's user set for the host's programs must not reach this loader, but must reach the program's
 * children: it gets another name, and the library that gives the names back (show.c) is loaded instead.
 * LD_LIBRARY_PATH may stay: --library-path comes in its place. */
#define SHOW_AGAIN "LD_PRELOAD=libbelljar.so"

static int hide_variables(struct process *it) {
    int hidden = 0;
    for (char **variable = it->environment; *variable; variable++)
        if (begins(*variable, "LD_PRELOAD=") || begins(*variable, "LD_AUDIT=") ||
            begins(*variable, "LD_ORIGIN_PATH=")) {
            (*variable)[0] = 'B';
            (*variable)[1] = 'J';
            hidden = 1;
        }
    return hidden;
}

static const char *behind_list(const char *text) {
    while (*text)
        text = after(text);
    return text + 1;
}

static word count_of(const char *list) {
    word count = 0;
    for (; *list; list = after(list))
        count++;
    return count;
}

static int is_set(const char *variable, const char *list) {
    for (; *list; list = after(after(list)))
        if (begins(variable, list))
            return 1;
    return 0;
}

__attribute__((used, noreturn)) void stub_main(word *stack) {
    char directory[PATH], spare[PATH];
    struct process it = process_of(stack);
    if (value_of(&it, AT_SECURE, 0))
        fail("", "a sealed program cannot be set-user-ID: anybody could choose its libraries by a link to it");
    directory_of(&it, directory, spare);
    const char *program = after(config.words), *options = after(program), *variables = behind_list(options);
    word words = (word)((word *)it.vector - stack) + count_of(options) + count_of(variables) + 5;
    word paths = 2 + count_of(variables), text = (word)(behind_list(variables) - config.words);
    word memory = map(0, words * sizeof(word) + paths * (length(directory) + 1) + text, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, (word)-1, 0);
    if (failed(memory))
        fail("", "no memory");
    const char **next = (const char **)memory, **arguments = next;
    char *room = (char *)(next + words), *loader = room;
    *next++ = loader;
    room = place_of(room, directory, config.words) + 1;
    for (; *options; options = after(options)) {
        *next++ = options;
        if (begins(options, "--argv0"))
            *next++ = stack[0] ? (const char *)stack[1] : "";
    }
    *next++ = room;
    room = place_of(room, directory, program) + 1;
    for (word i = 1; i < stack[0]; i++)
        *next++ = (const char *)stack[1 + i];
    *next++ = 0;
    const char **environment = next;
    if (hide_variables(&it))
        *next++ = SHOW_AGAIN;
    for (char **variable = it.environment; *variable; variable++)
        if (!is_set(*variable, variables))
            *next++ = *variable;
    for (; *variables; variables = after(after(variables))) {
        *next++ = room;
        room = place_of(append(room, variables), directory, after(variables)) + 1;
    }
    *next = 0;
    system_call(NR_execve, (word)loader, (word)arguments, (word)environment, 0, 0, 0);
    fail(loader, ": the loader cannot be executed");
}
