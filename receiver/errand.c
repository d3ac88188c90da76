// SPDX-License-Identifier: Apache-2.0
#include "receiver/errand.h"

#include <stddef.h>

#include "receiver/acceptance.h"
#include "receiver/inspection.h"

struct errand *errand_create(struct request *request)
{
    if (request->kind == REQUEST_QUARANTINE) {
        struct inspection *inspection = inspection_create(request);
        return inspection == NULL ? NULL : &inspection->errand;
    }
    struct acceptance *acceptance = acceptance_create(request);
    return acceptance == NULL ? NULL : &acceptance->errand;
}

void errand_destroy(struct errand *errand)
{
    if (errand == NULL)
        return;
    if (errand->request.kind == REQUEST_QUARANTINE)
        inspection_destroy((struct inspection *)errand);
    else
        acceptance_destroy((struct acceptance *)errand);
}

char *errand_answer(const struct errand *errand)
{
    if (errand->request.kind == REQUEST_QUARANTINE)
        return inspection_answer((const struct inspection *)errand);
    return acceptance_answer((const struct acceptance *)errand);
}
