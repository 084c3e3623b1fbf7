/* libbelljar.so: shows a program, and its children, the variables that a launcher has hidden from the loader.
 *
 * What the host's user wants to be preloaded is for the host's programs. The launcher (launcher.c, or the script)
 * calls LD_PRELOAD BJ_PRELOAD and so on, and has this library loaded instead, which gives the names back when it
 * is initialised, before the program begins. It needs no libc: the loader gives an initialiser the environment.
 */

#define NAME "LD_PRELOAD=libbelljar.so"

static int begins(const char *text, const char *start) {
    while (*start)
        if (*text++ != *start++)
            return 0;
    return 1;
}

__attribute__((visibility("hidden"))) void stub_start(int count, char **arguments, char **environment) {
    (void)count;
    (void)arguments;
    char **to = environment;
    for (char **from = environment; *from; from++) {
        if (begins(*from, NAME) && !(*from)[sizeof NAME - 1])
            continue;
        if (begins(*from, "BJ_PRELOAD=") || begins(*from, "BJ_AUDIT=") || begins(*from, "BJ_ORIGIN_PATH=")) {
            (*from)[0] = 'L';
            (*from)[1] = 'D';
        }
        *to++ = *from;
    }
    *to = 0;
}
