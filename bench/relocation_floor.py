"""What putting new files in the place of old ones costs at least: the same calls, in C, one thread.

For each file: open, read (from 128 KiB on the kernel copies), create beside it, write, change the recorded
bytes, set mode and times, close. Then syncfs, rename each over the old one, syncfs. No journal, no checks, no
owners or attributes: less than any safe program could do.
"""

import os
import subprocess
import sys
from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char buffer[1 << 17], line[8192], temp[8192];

static void stage(const char *path, long offset, const char *bytes) {
    struct stat info;
    int source = open(path, O_RDONLY), target = open(temp, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (source < 0 || target < 0 || fstat(source, &info)) abort();
    if (info.st_size <= (off_t)sizeof buffer) {
        ssize_t count = read(source, buffer, sizeof buffer);
        if (write(target, buffer, count) != count) abort();
    } else
        for (off_t from = 0, to = 0; from < info.st_size;)
            if (copy_file_range(source, &from, target, &to, info.st_size - from, 0) <= 0) abort();
    if (pwrite(target, bytes, strlen(bytes), offset) < 0 || fchmod(target, info.st_mode & 07777)) abort();
    futimens(target, (struct timespec[]){info.st_atim, info.st_mtim});
    close(target);
    close(source);
}

static void each(const char *list, const char *bytes) {
    FILE *lines = fopen(list, "r");
    for (long number = 0; lines && fgets(line, sizeof line, lines); number++) {
        char *tab = strchr(line, '\t');
        *tab = 0;
        char *name = strrchr(line, '/');
        snprintf(temp, sizeof temp, "%.*s/.t%ld", (int)(name - line), line, number);
        if (bytes) stage(line, atol(tab + 1), bytes);
        else if (rename(temp, line)) abort();
    }
    fclose(lines);
    int here = open(".", O_RDONLY);
    syncfs(here);
    close(here);
}

int main(int count, char **words) {  /* LIST BYTES, in the tree */
    each(words[1], words[2]);
    each(words[1], NULL);
    return 0;
}
"""


def compiled(place: Path) -> Path:
    """Compile the program with the zig that the tests use."""
    source, program = place / "floor.c", place / "floor"
    source.write_text(SOURCE)
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(place / "zig"), "ZIG_LOCAL_CACHE_DIR": str(place / "zig")}
    subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", "-O2", "-w", "-o", program, source],
        check=True,
        env=os.environ | caches,
    )
    return program


def replace(program: Path, tree: Path, offsets: dict[str, int], text: bytes) -> None:
    """Put a new file, with `text` at the offset, in the place of each."""
    listing = program.with_suffix(".list")
    listing.write_text("".join(f"{path}\t{offset}\n" for path, offset in offsets.items()))
    subprocess.run([program, listing, text], cwd=tree, check=True)
