/* Writes, reads, lists, renames and removes files in the directory argv[1]. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 2 || chdir(argv[1]) != 0)
        return 1;
    FILE *f = fopen("a.txt", "w");
    for (int i = 0; i < 10000; i++)
        fprintf(f, "line %d\n", i);
    fclose(f);
    struct stat st;
    stat("a.txt", &st);
    printf("size %ld mode %o links %ld regular %d\n", (long)st.st_size, st.st_mode & 0777,
           (long)st.st_nlink, S_ISREG(st.st_mode));
    f = fopen("a.txt", "r");
    char line[64];
    long sum = 0;
    while (fgets(line, sizeof line, f))
        sum += atol(line + 5);
    fseek(f, 5, SEEK_SET);
    int first = fgetc(f);
    fclose(f);
    printf("sum %ld first %c\n", sum, first);
    mkdir("d", 0755);
    rename("a.txt", "d/b.txt");
    symlink("b.txt", "d/link");
    char target[16] = {0};
    printf("link %zd %s\n", readlink("d/link", target, 15), target);
    DIR *dir = opendir("d");
    int n_entries = 0;
    for (struct dirent *e; (e = readdir(dir));)
        n_entries += strcmp(e->d_name, ".") && strcmp(e->d_name, "..") ? 1 : 0;
    closedir(dir);
    printf("entries %d\n", n_entries);
    printf("missing %d %s\n", open("nothing", O_RDONLY), strerror(errno));
    printf("rmdir %d %s\n", rmdir("d"), strerror(errno));
    unlink("d/b.txt");
    unlink("d/link");
    printf("rmdir %d\n", rmdir("d"));
    printf("access %d\n", access("d", F_OK));
    return 0;
}
