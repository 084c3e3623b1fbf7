/* The entry of a program that carries its own loader. See docs/sealing.md.
 *
 * The kernel maps the program, sees no PT_INTERP and jumps here, with the stack of a new process. What
 * the kernel would have done for PT_INTERP is done here, with a loader that is found from the program's
 * own directory: map it, tell it of the program through the auxiliary vector, jump to it. Then the
 * loader goes on as in any other program. Nothing else of the process is touched: one exec, no wrapper.
 *
 * Position-independent, without data of its own but `config`, which belljar fills in behind the code
 * when it seals a program. No libc, no relocations, no writable memory in the file: text is never written.
 *
 * Structures: System V ABI, gABI chapter 4 and 5; start-up stack: psABI 3.4 (x86-64), AAPCS64; the kernel's
 * own mapping of an interpreter, which this repeats: fs/binfmt_elf.c, load_elf_interp().
 */

#include "process.h"

enum { PT_LOAD = 1, PT_DYNAMIC = 2, PT_INTERP = 3, PT_PHDR = 6, PF_X = 1, PF_W = 2, PF_R = 4 };
enum { HEADERS = 1024 };
enum { DT_NULL = 0, DT_STRTAB = 5, DT_RPATH = 15, DT_RUNPATH = 29 };
enum { DT_VERNEEDNUM = 0x6fffffff };

struct header {
    unsigned char ident[16];
    quarter type, machine;
    half version;
    word entry, phoff, shoff;
    half flags;
    quarter ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
struct segment {
    half type, flags;
    word offset, vaddr, paddr, filesz, memsz, align;
};
struct dynamic {
    word tag, value;
};

/* Filled in by belljar.seal.embed, which knows this layout. Addresses are those of the file. */
struct config {
    char magic[8];
    word address; /* of this structure */
    word entry;   /* the program's own */
    word slot;    /* which program header is this segment's, and was PT_INTERP's */
    /* NUL-terminated strings: the loader; directories of libraries, and an empty one; variables ("NAME=")
     * each before the path that it is to have, and an empty one. A path begins with a slash and is relative
     * to the program's directory: "/../lib/ld.so". */
    char paths[];
};
extern const struct config config __attribute__((visibility("hidden"))); /* that behind the code: see START */

__asm__(START_STUB SHOW);

/* What stands in the place of the L of an LD_ variable while the loader looks. */
enum { HIDDEN = 1 };

#define LIBRARY_PATH "LD_LIBRARY_PATH="

/* What is needed at the program's entry, and the variable that this loader is to see, with what stood in its
 * place. It lies behind the program headers. */
struct own {
    const struct config *config;
    char *instead;
    char text[];
};

static struct own *own_behind(struct segment *headers, word count) { return (struct own *)(headers + count); }

static void copy(char *to, const char *from, word size) {
    while (size--)
        *to++ = *from++;
}

static word protection_of(const struct segment *segment) {
    return (segment->flags & PF_R ? PROT_READ : 0) | (segment->flags & PF_W ? PROT_WRITE : 0) |
           (segment->flags & PF_X ? PROT_EXEC : 0);
}

/* Map one segment over the reservation: its bytes, zeros to the end of the last page of them (the loader's
 * first allocations lie there, and it takes them for zero), and whole pages of zeros. */
static int map_segment(const struct segment *segment, word bias, word file, word page) {
    word start = segment->vaddr & -page, into = segment->vaddr - start;
    word bytes_end = segment->vaddr + segment->filesz, end = segment->vaddr + segment->memsz;
    word zeros = (bytes_end + page - 1) & -page, protection = protection_of(segment);
    if (segment->filesz && failed(map(bias + start, segment->filesz + into, protection, MAP_PRIVATE | MAP_FIXED, file,
                                      segment->offset - into)))
        return 0;
    if (end > bytes_end && segment->flags & PF_W)
        for (char *byte = (char *)(bias + bytes_end); byte < (char *)(bias + zeros); byte++)
            *byte = 0;
    return end <= zeros || !failed(map(bias + zeros, end - zeros, protection, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS,
                                       (word)-1, 0));
}

/* Map the loader; return its bias and put its entry into `entry`. */
static word map_loader(const char *path, word page, word *entry) {
    word buffer[HEADERS / sizeof(word)];
    word file = system_call(NR_openat, (word)AT_FDCWD, (word)path, O_CLOEXEC, 0, 0, 0);
    if (failed(file))
        fail(path, ": the loader cannot be opened");
    word size = system_call(NR_read, file, (word)buffer, HEADERS, 0, 0, 0);
    struct header *header = (struct header *)buffer;
    if (failed(size) || size < sizeof *header || *(half *)header->ident != 0x464c457f || header->machine != MACHINE ||
        header->phentsize != sizeof(struct segment) || header->phoff > size ||
        header->phnum * sizeof(struct segment) > size - header->phoff)
        fail(path, ": not a loader for this machine");
    struct segment *segments = (struct segment *)((char *)buffer + header->phoff);
    word low = -1UL, high = 0, align = page;
    for (int i = 0; i < header->phnum; i++) {
        if (segments[i].type != PT_LOAD)
            continue;
        if (segments[i].vaddr < low)
            low = segments[i].vaddr;
        if (segments[i].vaddr + segments[i].memsz > high)
            high = segments[i].vaddr + segments[i].memsz;
        if (segments[i].align > align)
            align = segments[i].align;
    }
    low &= -align;
    word room = (high - low + page - 1) & -page;
    word base = map(0, room + align - page, 0, MAP_PRIVATE | MAP_ANONYMOUS, (word)-1, 0);
    if (failed(base))
        fail(path, ": no memory for the loader");
    word bias = ((base + align - 1) & -align) - low;
    for (int i = 0; i < header->phnum; i++)
        if (segments[i].type == PT_LOAD && !map_segment(&segments[i], bias, file, page))
            fail(path, ": the loader cannot be mapped");
    system_call(NR_close, file, 0, 0, 0, 0, 0);
    *entry = bias + header->entry;
    return bias + low;
}

/* Let the program's DT_RPATH name the library directories by their absolute paths: $ORIGIN needs /proc, and
 * a DT_RUNPATH would not reach the libraries' own needs, and would come after LD_LIBRARY_PATH. A program that
 * has neither has a spare entry at the end, or else DT_VERNEEDNUM, which glibc's loader does not read. */
static void set_search_path(const struct segment *segments, word count, word bias, const char *search) {
    const struct segment *table = 0;
    for (word i = 0; i < count; i++)
        if (segments[i].type == PT_DYNAMIC)
            table = &segments[i];
    if (!table)
        return;
    struct dynamic *entry = (struct dynamic *)(bias + table->vaddr), *end = entry + table->memsz / sizeof *entry;
    struct dynamic *strings = 0, *path = 0, *needless = 0;
    for (; entry < end && entry->tag != DT_NULL; entry++) {
        if (entry->tag == DT_STRTAB)
            strings = entry;
        if (entry->tag == DT_VERNEEDNUM)
            needless = entry;
        if (entry->tag == DT_RUNPATH || entry->tag == DT_RPATH) {
            entry->tag = DT_RPATH;
            path = entry; /* of several, the loader takes the last */
        }
    }
    if (!path)
        path = entry + 1 < end ? entry : needless;
    if (!path || !strings)
        return;
    path->tag = DT_RPATH;
    path->value = (word)search - (bias + strings->value);
}

/* Give the loader the program's headers with a PT_INTERP in the place of this segment. */
static void headers_for_loader(const struct segment *from, word count, struct segment *to, word bias, word slot,
                               char *loader) {
    for (word i = 0; i < count; i++) {
        copy((char *)&to[i], (const char *)&from[i], sizeof *to);
        if (to[i].type == PT_PHDR)
            to[i].vaddr = to[i].paddr = (word)to - bias;
    }
    struct segment *interpreter = &to[slot];
    interpreter->type = PT_INTERP;
    interpreter->flags = PF_R;
    interpreter->vaddr = interpreter->paddr = (word)loader - bias;
    interpreter->filesz = interpreter->memsz = length(loader) + 1;
    interpreter->align = 1;
}

/* Write the search path. Where the program's directory has a colon or dollar in it, which are syntax there,
 * the loader is left to find that directory itself. */
static char *write_search(char *to, const char *directory, const char *paths) {
    int plain = 1;
    for (const char *c = directory; *c; c++)
        plain &= *c != ':' && *c != '$';
    const char *path = after(paths);
    for (int first = 1; *path; path = after(path), first = 0) {
        to = append(to, first ? "" : ":");
        to = plain ? place_of(to, directory, path) : append(append(to, "$ORIGIN"), path);
    }
    return to;
}

/* How much memory all paths may take; `count` is how many variables there are. */
static word room_of(const char *paths, word directory, word *count) {
    const char *text = paths;
    word room = sizeof(struct own) + sizeof LIBRARY_PATH;
    for (; *text; text = after(text))
        room += directory + sizeof "$ORIGIN" + length(text) + 1;
    *count = 0;
    for (text = after(text); *text; text = after(after(text)), ++*count)
        room += length(text) + directory + length(after(text)) + 1;
    return room + 1;
}

static const char *variables_of(const char *paths) {
    while (*paths)
        paths = after(paths);
    return after(paths);
}

static int is_set(const char *variable, const char *text) {
    for (; *text; text = after(after(text)))
        if (begins(variable, text))
            return 1;
    return 0;
}

/* Give the process the variables that tell its libc where its data is, in the place of those of a sealed
 * parent. Their names are those of the private libc alone: children with another libc are not misled. All
 * that the stack holds (arguments, variables, vector follow one another) is written anew, lower by `count`
 * words; `room` takes the variables. */
static void add_variables(struct process *it, const char *own, word count, char *room, const char *directory) {
    word *from = it->stack, *to = (word *)((word)(from - count) & -16UL), *stack = to;
    while (from < (word *)it->environment)
        *to++ = *from++;
    for (; *from; from++)
        if (!is_set((char *)*from, own))
            *to++ = *from;
    for (const char *text = own; *text; text = after(after(text))) {
        *to++ = (word)room;
        room = place_of(append(room, text), directory, after(text)) + 1;
    }
    *to++ = 0;
    for (from = (word *)it->vector; from[0]; from += 2) {
        *to++ = from[0];
        *to++ = from[1];
    }
    to[0] = to[1] = 0;
    *it = process_of(stack);
}

/* What the host's user set for the host's programs must not reach this loader, but must reach the program's
 * children: it is hidden now and shown again at the program's entry. */
static void hide_variables(struct process *it) {
    for (char **variable = it->environment; *variable; variable++)
        if (begins(*variable, LIBRARY_PATH) || begins(*variable, "LD_PRELOAD=") ||
            begins(*variable, "LD_AUDIT=") || begins(*variable, "LD_ORIGIN_PATH="))
            **variable = HIDDEN;
}

/* Let libraries that have a RUNPATH, for which the program's DT_RPATH does not count, search the same directories:
 * by LD_LIBRARY_PATH, which stands in the place of the host's, or else of the last variable of the seal, until
 * the program's entry. So no variable comes or goes while somebody may remember where they are. */
static void lend_variable(struct process *it, const char *variables, struct own *own) {
    char **place = 0;
    for (char **variable = it->environment; *variable; variable++)
        if (is_set(*variable, variables) || (**variable == HIDDEN && begins(*variable + 1, &LIBRARY_PATH[1]))) {
            place = variable;
            if (**variable == HIDDEN)
                break;
        }
    if (!place)
        return;
    own->instead = *place;
    *place = own->text;
}

/* Called at the program's entry; return where the program begins. */
__attribute__((used)) word stub_show(word *stack) {
    struct process it = process_of(stack);
    struct own *own = own_behind((struct segment *)value_of(&it, AT_PHDR, 0), value_of(&it, AT_PHNUM, 0));
    for (char **variable = it.environment; *variable; variable++) {
        if (*variable == own->text)
            *variable = own->instead;
        if (**variable == HIDDEN && begins(*variable + 1, "D_"))
            **variable = 'L';
    }
    return (word)own->config - own->config->address + own->config->entry;
}

struct start {
    word entry;
    word *stack;
};

/* Called at the entry of the file, or by what stands there (first.c); return where the loader begins, and its
 * stack. */
__attribute__((used)) struct start stub_main(word *stack, const struct config *config) {
    char directory[PATH], spare[PATH];
    struct process it = process_of(stack);
    const char *variables = variables_of(config->paths);
    word bias = (word)config - config->address, page = value_of(&it, AT_PAGESZ, 4096);
    if (value_of(&it, AT_SECURE, 0))
        fail("", "a sealed program cannot be set-user-ID: anybody could choose its libraries by a link to it");
    const struct segment *segments = (const struct segment *)value_of(&it, AT_PHDR, 0);
    word count = value_of(&it, AT_PHNUM, 0), added;
    directory_of(&it, directory, spare);
    word headers = count * sizeof(struct segment);
    word memory = map(0, headers + room_of(config->paths, length(directory), &added), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, (word)-1, 0);
    if (failed(memory))
        fail("", "no memory");
    struct own *own = own_behind((struct segment *)memory, count);
    char *search = append(own->text, LIBRARY_PATH), *loader = write_search(search, directory, config->paths) + 1;
    char *values = place_of(loader, directory, config->paths) + 1;
    own->config = config;
    headers_for_loader(segments, count, (struct segment *)memory, bias, config->slot, loader);
    set_search_path(segments, count, bias, search);
    struct start start;
    word base = map_loader(loader, page, &start.entry);
    *auxiliary(&it, AT_PHDR) = memory;
    if (auxiliary(&it, AT_BASE))
        *auxiliary(&it, AT_BASE) = base;
    *auxiliary(&it, AT_ENTRY) = (word)&stub_entry;
    hide_variables(&it);
    add_variables(&it, variables, added, values, directory);
    lend_variable(&it, variables, own);
    start.stack = it.stack;
    return start;
}
