// SPDX-License-Identifier: Apache-2.0
#include "common/conf.h"

#include <assert.h>
#include <errno.h>
#include <ini.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cpus.h"
#include "common/log.h"
#include "common/units.h"

enum {
    LINE_SIZE = 8192,  /* longest line, with room for a path of PATH_MAX */
    NAME_SIZE = 50,    /* libinih cuts names of sections and keys at 49 bytes */
    LINES_MAX = 10000, /* a file with more is not a configuration */
    PROBLEM_SIZE = 1024,
};

/* A section or a value that was seen, so that doubles and what is missing can be told. */
struct seen {
    char section[NAME_SIZE];
    const struct conf_key *key; /* NULL: the section's header */
    int line;
};

struct parser {
    struct conf_context context;
    FILE *stream;
    const struct conf_key *keys;
    size_t key_count;
    void *target;
    struct seen *seen;
    size_t seen_count;
    size_t seen_capacity;
};

void conf_problem(struct conf_context *context, const char *format, ...)
{
    char message[PROBLEM_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (context->line > 0)
        log_error("%s:%d: %s", context->file, context->line, message);
    else
        log_error("%s: %s", context->file, message);
    context->problems++;
}

/* True when `pattern` of the table is `section`; *name is what its '*' stands for. */
static bool section_matches(const char *pattern, const char *section, const char **name)
{
    *name = NULL;
    size_t size = strlen(pattern);
    if (size == 0 || pattern[size - 1] != '*')
        return strcmp(pattern, section) == 0;
    if (strncmp(pattern, section, size - 1) != 0 || section[size - 1] == '\0')
        return false;
    *name = section + size - 1;
    return true;
}

static bool section_is_known(const struct parser *parser, const char *section)
{
    const char *name;
    for (size_t i = 0; i < parser->key_count; i++)
        if (section_matches(parser->keys[i].section, section, &name))
            return true;
    return false;
}

static const struct seen *find_seen(const struct parser *parser, const char *section, const struct conf_key *key)
{
    for (size_t i = 0; i < parser->seen_count; i++)
        if (parser->seen[i].key == key && strcmp(parser->seen[i].section, section) == 0)
            return &parser->seen[i];
    return NULL;
}

static void add_seen(struct parser *parser, const char *section, const struct conf_key *key)
{
    if (parser->seen_count == parser->seen_capacity) {
        size_t capacity = parser->seen_capacity == 0 ? 64 : parser->seen_capacity * 2;
        struct seen *grown = realloc(parser->seen, capacity * sizeof *grown);
        if (grown == NULL) {
            conf_problem(&parser->context, "%s", strerror(ENOMEM));
            return;
        }
        parser->seen = grown;
        parser->seen_capacity = capacity;
    }
    struct seen *entry = &parser->seen[parser->seen_count++];
    snprintf(entry->section, sizeof entry->section, "%s", section);
    entry->key = key;
    entry->line = parser->context.line;
}

static char *skip_blanks(char *text)
{
    while (*text == ' ' || *text == '\t' || *text == '\r' || *text == '\n' || *text == '\f' || *text == '\v')
        text++;
    return text;
}

/* Returns false, having told why, when libinih must not see the header. */
static bool check_header(struct parser *parser, const char *text)
{
    char section[NAME_SIZE];
    const char *end = strchr(text, ']');
    if (end == NULL) {
        conf_problem(&parser->context, "a section header needs a closing ']'");
        return false;
    }
    size_t size = (size_t)(end - text - 1);
    if (size >= sizeof section) {
        conf_problem(&parser->context, "a section name has at most %d bytes", NAME_SIZE - 1);
        return false;
    }
    memcpy(section, text + 1, size);
    section[size] = '\0';
    if (!section_is_known(parser, section)) {
        conf_problem(&parser->context, "unknown section [%s]", section);
        return true;
    }
    if (find_seen(parser, section, NULL) == NULL)
        add_seen(parser, section, NULL);
    return true;
}

/* Returns false, having told why, when libinih must not see the line: it would report one such line only, or cut it. */
static bool check_line(struct parser *parser, char *line, size_t length)
{
    if (strlen(line) != length) {
        conf_problem(&parser->context, "a NUL byte is in this line");
        return false;
    }
    char *text = parser->context.line == 1 && strncmp(line, "\xef\xbb\xbf", 3) == 0 ? line + 3 : line;
    text = skip_blanks(text);
    if (*text == '\0' || *text == ';' || *text == '#')
        return true;
    if (*text == '[')
        return check_header(parser, text);
    size_t name_size = strcspn(text, "=:");
    if (text[name_size] == '\0') {
        conf_problem(&parser->context, "this is no 'key = value'");
        return false;
    }
    while (name_size > 0 && (text[name_size - 1] == ' ' || text[name_size - 1] == '\t'))
        name_size--;
    if (name_size == 0 || name_size >= NAME_SIZE) {
        conf_problem(&parser->context, "a key has between 1 and %d bytes", NAME_SIZE - 1);
        return false;
    }
    return true;
}

/* libinih's reader, like fgets(3): counts the lines, which its handler is not told. */
static char *read_line(char *buffer, int size, void *stream)
{
    struct parser *parser = stream;
    assert(size > 2);
    if (parser->context.line >= LINES_MAX) {
        conf_problem(&parser->context, "the file has too many lines");
        return NULL;
    }
    size_t length = 0;
    bool any = false;
    bool fits = true;
    int character;
    while ((character = getc(parser->stream)) != EOF) {
        any = true;
        if (character == '\n')
            break;
        if (length + 2 < (size_t)size)
            buffer[length++] = (char)character;
        else
            fits = false;
    }
    if (!any)
        return NULL;
    parser->context.line++;
    buffer[length] = '\0';
    if (!fits)
        conf_problem(&parser->context, "a line has at most %d bytes", size - 3);
    if (!fits || !check_line(parser, buffer, length))
        length = 0;
    buffer[length] = '\n';
    buffer[length + 1] = '\0';
    return buffer;
}

/* libinih's handler: one value. Returns 1: problems are counted by us. */
static int handle_value(void *user, const char *section, const char *key, const char *value)
{
    struct parser *parser = user;
    const char *name = NULL;
    if (section[0] == '\0') {
        conf_problem(&parser->context, "'%s' stands before the first section", key);
        return 1;
    }
    if (!section_is_known(parser, section))
        return 1; /* told at its header */
    const struct conf_key *match = NULL;
    for (size_t i = 0; i < parser->key_count && match == NULL; i++)
        if (section_matches(parser->keys[i].section, section, &name) && strcmp(parser->keys[i].key, key) == 0)
            match = &parser->keys[i];
    if (match == NULL) {
        conf_problem(&parser->context, "unknown key '%s' in section [%s]", key, section);
        return 1;
    }
    const struct seen *earlier = find_seen(parser, section, match);
    if (earlier != NULL) {
        conf_problem(&parser->context, "'%s' was given in line %d already", key, earlier->line);
        return 1;
    }
    add_seen(parser, section, match);
    match->set(&parser->context, match, name, value, parser->target);
    return 1;
}

/* A required key is missing from each section that is there and matches, and from one that must be there. */
static void check_required(struct parser *parser)
{
    for (size_t i = 0; i < parser->key_count; i++) {
        const struct conf_key *key = &parser->keys[i];
        const char *name;
        if (!key->required)
            continue;
        parser->context.line = 0;
        if (strchr(key->section, '*') == NULL && find_seen(parser, key->section, NULL) == NULL)
            conf_problem(&parser->context, "'%s' in section [%s] is missing", key->key, key->section);
        for (size_t j = 0; j < parser->seen_count; j++) {
            const struct seen *header = &parser->seen[j];
            if (header->key != NULL || !section_matches(key->section, header->section, &name) ||
                find_seen(parser, header->section, key) != NULL)
                continue;
            parser->context.line = header->line;
            conf_problem(&parser->context, "'%s' in section [%s] is missing", key->key, header->section);
        }
    }
}

enum status conf_load(const char *file, const struct conf_key *keys, size_t key_count, void *target)
{
    struct parser parser = {
        .context = {.file = file}, .keys = keys, .key_count = key_count, .target = target, .stream = NULL};
    parser.stream = fopen(file, "re");
    struct stat stat;
    if (parser.stream != NULL && fstat(fileno(parser.stream), &stat) == 0 && S_ISDIR(stat.st_mode)) {
        fclose(parser.stream);
        parser.stream = NULL;
        errno = EISDIR;
    }
    if (parser.stream == NULL) {
        int error = errno;
        log_error("%s: can't be read: %s", file, strerror(error));
        return status_from_errno(error);
    }
    /* The library's switches are global; these fit every file of ours. */
    ini_allow_multiline = false;
    ini_use_stack = false;
    ini_initial_alloc = LINE_SIZE;
    ini_max_line = LINE_SIZE;
    int result = ini_parse_stream(read_line, &parser, handle_value, &parser);
    bool failed = ferror(parser.stream) != 0;
    int error = errno;
    fclose(parser.stream);
    if (failed) {
        log_error("%s: can't be read: %s", file, strerror(error));
        free(parser.seen);
        return status_from_errno(error);
    }
    if (result != 0) {
        parser.context.line = result > 0 ? result : 0;
        conf_problem(&parser.context, "%s", result == -2 ? strerror(ENOMEM) : "not understood");
    }
    check_required(&parser);
    free(parser.seen);
    return parser.context.problems == 0 ? STATUS_OK : STATUS_INVALID;
}

static void *member(const struct conf_key *key, void *target)
{
    return (char *)target + key->offset;
}

void conf_set_string(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                     void *target)
{
    (void)name;
    if (value[0] == '\0') {
        conf_problem(context, "'%s' is empty", key->key);
        return;
    }
    char *copy = strdup(value);
    if (copy == NULL) {
        conf_problem(context, "%s", strerror(ENOMEM));
        return;
    }
    char **place = member(key, target);
    free(*place);
    *place = copy;
}

void conf_set_directory(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                        void *target)
{
    struct stat found;
    if (value[0] != '\0' && stat(value, &found) != 0)
        conf_problem(context, "'%s': the directory %s: %s", key->key, value, strerror(errno));
    else if (value[0] != '\0' && !S_ISDIR(found.st_mode))
        conf_problem(context, "'%s': %s is not a directory", key->key, value);
    else
        conf_set_string(context, key, name, value, target);
}

void conf_set_file(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                   void *target)
{
    struct stat found;
    if (value[0] != '\0' && (stat(value, &found) != 0 || access(value, R_OK) != 0))
        conf_problem(context, "'%s': the file %s: %s", key->key, value, strerror(errno));
    else if (value[0] != '\0' && !S_ISREG(found.st_mode))
        conf_problem(context, "'%s': %s is not a regular file", key->key, value);
    else
        conf_set_string(context, key, name, value, target);
}

void conf_set_size(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                   void *target)
{
    (void)name;
    if (!units_parse_size(value, member(key, target)))
        conf_problem(context, "'%s': '%s' is not a size such as 64MiB or 500GiB", key->key, value);
}

void conf_set_rate(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                   void *target)
{
    (void)name;
    if (!units_parse_rate(value, member(key, target)))
        conf_problem(context, "'%s': '%s' is not a rate such as 500Mbit/s or 1Gbit/s", key->key, value);
}

void conf_set_duration(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                       void *target)
{
    (void)name;
    if (!units_parse_duration(value, member(key, target)))
        conf_problem(context, "'%s': '%s' is not a time such as 5ms, 30s or 7d", key->key, value);
}

void conf_set_uint(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                   void *target)
{
    (void)name;
    uint64_t number = 0;
    bool good = value[0] != '\0' && strspn(value, "0123456789") == strlen(value);
    for (const char *digit = value; good && *digit != '\0'; digit++) {
        number = number * 10 + (uint64_t)(*digit - '0');
        good = number <= UINT32_MAX;
    }
    if (good)
        *(uint32_t *)member(key, target) = (uint32_t)number;
    else
        conf_problem(context, "'%s': '%s' is not a whole number", key->key, value);
}

void conf_set_bool(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                   void *target)
{
    (void)name;
    if (strcmp(value, "on") == 0)
        *(bool *)member(key, target) = true;
    else if (strcmp(value, "off") == 0)
        *(bool *)member(key, target) = false;
    else
        conf_problem(context, "'%s': '%s' is neither on nor off", key->key, value);
}

void conf_set_log_names(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                        void *target)
{
    (void)name;
    if (strcmp(value, "hash") == 0)
        *(bool *)member(key, target) = true;
    else if (strcmp(value, "full") == 0)
        *(bool *)member(key, target) = false;
    else
        conf_problem(context, "'%s': '%s' is neither full nor hash", key->key, value);
}

void conf_set_cpus(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                   void *target)
{
    (void)name;
    cpu_set_t allowed;
    struct cpus cpus;
    const char *problem = cpus_parse(value, &cpus);
    if (problem != NULL) {
        conf_problem(context, "'%s': '%s': %s", key->key, value, problem);
        return;
    }
    bool is_known = sched_getaffinity(0, sizeof allowed, &allowed) == 0;
    for (unsigned i = 0; i < cpus.count && is_known; i++)
        if (!CPU_ISSET(cpus.numbers[i], &allowed)) {
            conf_problem(context, "'%s': this process may not run on CPU %u, or there is none; see \"taskset -cp $$\"",
                         key->key, cpus.numbers[i]);
            return;
        }
    *(struct cpus *)member(key, target) = cpus;
}
