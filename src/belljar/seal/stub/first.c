/* The entry of a program that has no room for the stub: one that carries data behind its sections, which must
 * neither move nor get anything behind it. This code stands in the padding between two segments, with the
 * configuration (stub.c) behind it. It maps the stub, which lies beside the loader, and goes on there. It is small,
 * to find room, so it knows one way to the program's directory only: /proc, which such programs need themselves.
 */

#include "process.h"

struct config {
    char magic[8];
    word address, entry, slot;
    char paths[];
};
extern const struct config config __attribute__((visibility("hidden")));

__asm__(START_FIRST);

enum { SIZE = 8192 }; /* no less than the stub has */

/* Return where the stub goes on. */
__attribute__((used)) word first_main(void) {
    char directory[PATH], path[PATH + PATH];
    if (!link_of("/proc/self/exe", directory) || directory[0] != '/')
        fail("", "cannot tell where the program lies: no /proc");
    end_of_directory(directory);
    place_of(path, directory, config.paths);
    append(end_of_directory(path), "/belljar.stub");
    word file = system_call(NR_openat, (word)AT_FDCWD, (word)path, O_CLOEXEC, 0, 0, 0);
    word code = map(0, SIZE, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
    if (failed(file) || failed(code))
        fail(path, ": cannot be mapped");
    system_call(NR_close, file, 0, 0, 0, 0, 0);
    return code + FROM;
}
