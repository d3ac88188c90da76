// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>

#include "tests/fuzz/mutate.h"

int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

/* Stands in for libFuzzer where inputs are only replayed: the files named as arguments. */

size_t LLVMFuzzerMutate(uint8_t *bytes, size_t size, size_t size_max)
{
    (void)bytes, (void)size_max;
    return size;
}

static int replay(const char *name)
{
    FILE *file = fopen(name, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        perror(name);
        return 1;
    }
    long size = ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(size > 0 ? (size_t)size : 1);
    int failed = bytes == NULL || size < 0 || fread(bytes, 1, (size_t)size, file) != (size_t)size;
    fclose(file);
    if (failed)
        perror(name);
    else
        (void)LLVMFuzzerTestOneInput(bytes, (size_t)size);
    free(bytes);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;
    if (LLVMFuzzerInitialize != NULL)
        LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++)
        failed |= replay(argv[i]);
    return failed;
}
