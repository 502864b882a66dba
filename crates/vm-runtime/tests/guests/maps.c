/* mmap of files and memory, mprotect, the heap in /proc/self/maps. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char zeros[4 * 4096] __attribute__((aligned(4096)));

int main(int argc, char **argv)
{
    int fd = open(argv[argc - 1], O_RDWR | O_CREAT | O_TRUNC, 0600);
    char page[5000];
    memset(page, 'p', sizeof page);
    if (write(fd, page, sizeof page) != sizeof page)
        return 1;
    char *file = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    printf("file %c %d\n", file[4999], file[5000]);
    file[0] = 'q';
    char byte;
    printf("private %zd %c\n", pread(fd, &byte, 1, 0), byte);
    char *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(memory, 1, 1 << 20);
    madvise(memory, 1 << 20, MADV_DONTNEED);
    printf("zero %d\n", memory[12345]);
    printf("protect %d\n", mprotect(memory, 4096, PROT_READ));
    printf("fixed %d\n", mmap(memory + 4096, 4096, PROT_NONE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == memory + 4096);
    printf("unmap %d %d\n", munmap(memory, 1 << 20), munmap(file, 8192));
    memset(zeros, 7, sizeof zeros);
    printf("bss %d %d\n", madvise(zeros, 4096, MADV_DONTNEED), madvise(zeros + 8192, 4096, 8 /* MADV_FREE */));
    printf("bss %d %d\n", zeros[0], zeros[4096]);
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    int stack = 0, n_lines = 0;
    while (fgets(line, sizeof line, maps)) {
        n_lines++;
        stack += strstr(line, "[stack]") != NULL;
    }
    printf("maps %d stack %d\n", n_lines > 3, stack);
    unlink(argv[argc - 1]);
    return 0;
}
