// SPDX-License-Identifier: Apache-2.0
#include "common/status.h"

#include <errno.h>

const char *status_text(enum status status)
{
    switch (status) {
    case STATUS_OK:
        return "success";
    case STATUS_SYSTEM:
        return "a system call failed";
    case STATUS_NO_SPACE:
        return "no space left";
    case STATUS_NOT_FOUND:
        return "not found";
    case STATUS_EXISTS:
        return "already there";
    case STATUS_INVALID:
        return "invalid";
    case STATUS_LIMIT:
        return "a limit is exceeded";
    case STATUS_CORRUPT:
        return "stored data is corrupt";
    case STATUS_DENIED:
        return "denied";
    case STATUS_CHANGED:
        return "changed while it was read";
    }
    return "unknown status";
}

enum status status_from_errno(int error)
{
    errno = error;
    return error == ENOSPC || error == EDQUOT ? STATUS_NO_SPACE : STATUS_SYSTEM;
}

enum status status_from_path_errno(int error)
{
    errno = error;
    switch (error) {
    case ENOENT:
        return STATUS_NOT_FOUND;
    case EEXIST:
        return STATUS_EXISTS;
    case EACCES:
    case EPERM:
        return STATUS_DENIED;
    default:
        return status_from_errno(error);
    }
}
