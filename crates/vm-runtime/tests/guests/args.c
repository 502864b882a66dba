/* Shows its arguments, two variables, and what the auxiliary vector says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/utsname.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        printf("[%s]\n", argv[i]);
    printf("%s %d\n", getenv("HARTLOOM_TEST"), getenv("HARTLOOM_MISSING") != NULL);
    printf("page %lu secure %lu\n", getauxval(AT_PAGESZ), getauxval(AT_SECURE));
    struct utsname name;
    uname(&name);
    printf("%s %s\n", name.sysname, name.machine);
    char exe[4096] = {0};
    ssize_t bytes = readlink("/proc/self/exe", exe, sizeof exe - 1);
    const char *base = strrchr(argv[0], '/');
    printf("exe %d\n", bytes > 0 && base && strstr(exe, base) != NULL);
    printf("tty %d\n", isatty(1));
    return 42;
}
