/* Copies standard input to standard output, by lines, then says how many. */
#include <stdio.h>

int main(void)
{
    char line[256];
    int n_lines = 0;
    while (fgets(line, sizeof line, stdin)) {
        fputs(line, stdout);
        fflush(stdout);
        n_lines++;
    }
    fprintf(stderr, "%d lines\n", n_lines);
    return n_lines & 127;
}
