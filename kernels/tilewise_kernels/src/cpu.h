/* On which CPU a thread runs, and how it gets out of another's way. */
#ifndef TILEWISE_CPU_H
#define TILEWISE_CPU_H

#include <sched.h>
#include <stdint.h>

/* The CPU that the calling thread runs on, -1 where the system does not tell. */
static inline int64_t tw_cpu(void)
{
#if defined(__linux__)
    return sched_getcpu();
#else
    return -1;
#endif
}

static inline void tw_yield(void) { sched_yield(); }

/* Move the calling thread to another of the CPUs that it may use; afterwards it may use all of them again, as before.
   0 where there is no other. */
static inline int tw_leave_cpu(int64_t cpu)
{
#if defined(__linux__)
    cpu_set_t allowed, others;
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 0;
    others = allowed;
    CPU_CLR((int)cpu, &others);
    if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others) != 0) return 0;
    return sched_setaffinity(0, sizeof allowed, &allowed) == 0;
#else
    (void)cpu;
    return 0;
#endif
}

#endif
