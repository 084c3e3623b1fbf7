/* What the stub (stub.c) and the launcher (launcher.c) share: a new process as the kernel hands it over, system
 * calls, strings, and where the program lies. No libc, no data of its own.
 *
 * Start-up stack: psABI 3.4 (x86-64), AAPCS64.
 */

typedef unsigned long word;
typedef unsigned int half;
typedef unsigned short quarter;

#include ARCHITECTURE

enum { AT_PHDR = 3, AT_PHNUM = 5, AT_PAGESZ = 6, AT_BASE = 7, AT_ENTRY = 9, AT_SECURE = 23, AT_EXECFN = 31 };
enum { PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4 };
enum { MAP_PRIVATE = 2, MAP_FIXED = 0x10, MAP_ANONYMOUS = 0x20 };
enum { AT_FDCWD = -100, O_CLOEXEC = 0x80000 };
enum { PATH = 4096, LINKS = 40 };

struct auxiliary {
    word type, value;
};

struct process {
    word *stack;
    char **environment;
    struct auxiliary *vector;
};

static word length(const char *text) {
    word n = 0;
    while (text[n])
        n++;
    return n;
}

static inline const char *after(const char *text) { return text + length(text) + 1; }

static char *append(char *to, const char *text) {
    while (*text)
        *to++ = *text++;
    *to = 0;
    return to;
}

static int begins(const char *text, const char *start) {
    while (*start)
        if (*text++ != *start++)
            return 0;
    return 1;
}

static __attribute__((noreturn)) void fail(const char *subject, const char *what) {
    const char *parts[] = {"belljar: ", subject, what, "\n"};
    for (int i = 0; i < 4; i++)
        system_call(NR_write, 2, (word)parts[i], length(parts[i]), 0, 0, 0);
    for (;;)
        system_call(NR_exit_group, 127, 0, 0, 0, 0, 0);
}

static int failed(word result) { return result > (word)-4096; }

static word map(word address, word size, word protection, word flags, word file, word offset) {
    return system_call(NR_mmap, address, size, protection, flags, file, offset);
}

static inline struct process process_of(word *stack) {
    struct process it = {.stack = stack, .environment = (char **)(stack + stack[0] + 2)};
    char **end = it.environment;
    while (*end)
        end++;
    it.vector = (struct auxiliary *)(end + 1);
    return it;
}

static inline word *auxiliary(struct process *it, word type) {
    for (struct auxiliary *entry = it->vector; entry->type; entry++)
        if (entry->type == type)
            return &entry->value;
    return 0;
}

static inline word value_of(struct process *it, word type, word otherwise) {
    word *found = auxiliary(it, type);
    return found ? *found : otherwise;
}

static word link_of(const char *path, char *into) {
    word size = system_call(NR_readlinkat, (word)AT_FDCWD, (word)path, (word)into, PATH - 1, 0, 0);
    if (failed(size) || size == PATH - 1)
        return 0;
    into[size] = 0;
    return size;
}

/* Cut the last component off. */
static char *end_of_directory(char *path) {
    char *end = path + length(path);
    while (end > path && *end != '/')
        end--;
    *end = 0;
    return end;
}

/* Put the program's directory into `path`. Without /proc it is the name that was executed, with its
 * symbolic links followed; `spare` is as long. */
static inline char *directory_of(struct process *it, char *path, char *spare) {
    if (link_of("/proc/self/exe", path) && path[0] == '/')
        return end_of_directory(path);
    const char *name = (const char *)value_of(it, AT_EXECFN, 0);
    if (!name || length(name) >= PATH)
        fail("", "cannot tell where the program lies: no /proc, no AT_EXECFN");
    char *end = path;
    if (name[0] != '/') {
        if (failed(system_call(NR_getcwd, (word)path, PATH, 0, 0, 0, 0)) || length(path) + length(name) + 2 > PATH)
            fail(name, ": cannot tell the working directory");
        end = append(path + length(path), "/");
    }
    append(end, name);
    for (int links = 0; links < LINKS && link_of(path, spare); links++) {
        end = spare[0] == '/' ? path : append(end_of_directory(path), "/");
        if ((word)(end - path) + length(spare) >= PATH)
            fail(name, ": its path is too long");
        append(end, spare);
    }
    return end_of_directory(path);
}

/* Write the path of `name` as seen from `directory`, which has no symbolic links in it: "/.." goes up. */
static char *place_of(char *to, const char *directory, const char *name) {
    append(to, directory);
    for (; begins(name, "/../"); name += 3)
        end_of_directory(to);
    return append(to + length(to), name);
}
