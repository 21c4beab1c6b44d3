# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""The executor: walks a plan's steps without the GIL, with one small pool of threads for the whole process.

A running program owns a slot of the pool. For every step that has more than one task it opens the slot: whoever is
free, the caller included, claims runs of tasks, the caller from the front, helpers from the back, so that from step to
step and from run to run each finds in its cache what it touched before; runs get shorter towards the end (guided
self-scheduling, Polychronopoulos and Kuck, 1987). The caller goes on when all are finished. Workers that find nothing
spin for a moment and then sleep.

A worker that finds itself on the CPU of the program that it helps, which then stands still, moves to another one.
"""

from cpython.buffer cimport (
    PyBUF_RECORDS_RO, PyBUF_SIMPLE, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset, strcmp
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef extern from "atomics.h" nogil:
    int64_t tw_load(const int64_t *p)
    void tw_store(int64_t *p, int64_t v)
    void tw_set(int64_t *p, int64_t v)
    int64_t tw_add(int64_t *p, int64_t v)
    bint tw_cas(int64_t *p, int64_t expected, int64_t desired)
    void tw_pause()
    int tw_cpu_level()

cdef extern from "cpu.h" nogil:
    int64_t tw_cpu()
    void tw_yield()
    bint tw_leave_cpu(int64_t cpu)

cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_attr_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_attr_init(pthread_attr_t *)
    int pthread_attr_destroy(pthread_attr_t *)
    int pthread_attr_setdetachstate(pthread_attr_t *, int)
    int pthread_attr_setstacksize(pthread_attr_t *, size_t)
    int pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *) noexcept nogil, void *)
    int pthread_mutex_init(pthread_mutex_t *, void *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)
    int pthread_cond_init(pthread_cond_t *, void *)
    int pthread_cond_wait(pthread_cond_t *, pthread_mutex_t *)
    int pthread_cond_broadcast(pthread_cond_t *)
    int pthread_atfork(void (*)() noexcept nogil, void (*)() noexcept nogil, void (*)() noexcept nogil)
    int PTHREAD_CREATE_DETACHED

ctypedef void (*kernel_t)(const int64_t *args, int64_t begin, int64_t end) noexcept nogil

cdef enum:
    SLOTS = 64              # programs that may run in parallel with help from the pool
    MAX_THREADS = 256
    STACK_BYTES = 4 << 20
    CALLER_SPINS = 20000    # polls of a caller before it sleeps until its last task is done
    WORKER_SPINS = 20000     # polls of a worker while some program is running
    IDLE_SPINS = 200        # polls of a worker when none is
    YIELD_SPINS = 64        # polls between looks whether somebody waits for this very CPU
    MOVE_NS = 2000000       # least time between two moves of a worker to another CPU
    LATE_NS = 500000        # a step is late when its caller has waited this long, and longer than it worked itself
    ALONE_FACTOR = 16       # times what was lost that steps are then run by their callers alone
    TASK_BITS = 24
    MAX_TASKS = 0xFFFFFF    # tasks that one opening of a slot may hold
    EPOCHS = 0x8000

cdef struct Slot:
    int64_t busy            # 1 while a program owns the slot
    int64_t claim           # epoch << 48 | end << 24 | next: tasks [next, end) of the open step are still to be claimed
    int64_t kernel
    int64_t args
    int64_t first           # added to tasks
    int64_t tasks
    int64_t helpers         # workers that the owner allows beside itself
    int64_t cpu             # where the owner was when it opened the step
    int64_t done            # finished tasks of the open step
    int64_t waiting         # 1 while the owner sleeps
    int64_t helping         # workers inside the slot
    int64_t helper_cpu      # where the latest of them came from
    int64_t pad[4]

cdef Slot slots[SLOTS]
cdef pthread_mutex_t mutex
cdef pthread_cond_t work_cond, done_cond
cdef int64_t workers = 0    # threads alive
cdef int64_t running = 0    # programs that own a slot
cdef int64_t sleepers = 0
cdef int64_t top = 0        # slots below it have been in use
cdef int64_t alone_until = 0    # when helpers are asked again
cdef int64_t ticket = 0     # grows with every opened step, so that a worker about to sleep sees new work
cdef bint ready = False


cdef void reset() noexcept nogil:
    """The state of a process without workers; in a forked child the parent's threads and programs are gone."""
    global workers, running, sleepers, top, alone_until, ready
    memset(slots, 0, sizeof(slots))
    pthread_mutex_init(&mutex, NULL)
    pthread_cond_init(&work_cond, NULL)
    pthread_cond_init(&done_cond, NULL)
    workers = running = sleepers = top = alone_until = 0
    ready = True


cdef inline int64_t now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec * 1000000000 + t.tv_nsec


cdef bint help_slot(Slot *slot, bint owner) noexcept nogil:
    """Claim and run tasks of the slot's open step until none is left; False where there was none."""
    cdef int64_t claim, begin, end, first, count, tasks, args
    cdef kernel_t kernel
    cdef bint helped = False
    while True:
        claim = tw_load(&slot.claim)
        begin = claim & MAX_TASKS
        end = (claim >> TASK_BITS) & MAX_TASKS
        if begin >= end:
            return helped
        tasks = tw_load(&slot.tasks)
        first = tw_load(&slot.first)
        kernel = <kernel_t><uintptr_t>tw_load(&slot.kernel)
        args = tw_load(&slot.args)
        count = max(<int64_t>1, (end - begin) // (2 * tw_load(&slot.helpers) + 2))
        # Success proves that the step read above was still the open one.
        if not tw_cas(&slot.claim, claim, claim + count if owner else claim - (count << TASK_BITS)):
            continue
        helped = True
        first += begin if owner else end - count
        kernel(<const int64_t *><uintptr_t>args, first, first + count)
        if tw_add(&slot.done, count) == tasks and tw_load(&slot.waiting):
            pthread_mutex_lock(&mutex)
            pthread_cond_broadcast(&done_cond)
            pthread_mutex_unlock(&mutex)


cdef bint help_anyone(int64_t *moved) noexcept nogil:
    """Help every running program that allows it; False where nothing was to be done. moved: when the worker moved."""
    cdef bint helped = False
    cdef Slot *slot
    cdef int64_t i, cpu = tw_cpu()
    for i in range(tw_load(&top)):
        slot = &slots[i]
        if tw_load(&slot.busy) == 0:
            continue
        if tw_add(&slot.helping, 1) <= tw_load(&slot.helpers):
            if cpu >= 0 and tw_load(&slot.cpu) == cpu and now() - moved[0] > MOVE_NS:
                moved[0] = now()
                if tw_leave_cpu(cpu):
                    cpu = tw_cpu()
            tw_store(&slot.helper_cpu, cpu)
            helped |= help_slot(slot, False)
        tw_add(&slot.helping, -1)
    return helped


cdef bint stands_in_the_way() noexcept nogil:
    """True where a running program's owner was last seen on this very CPU."""
    cdef int64_t i, cpu = tw_cpu()
    for i in range(tw_load(&top)):
        if tw_load(&slots[i].busy) and tw_load(&slots[i].cpu) == cpu and cpu >= 0:
            return True
    return False


cdef void *worker(void *unused) noexcept nogil:
    cdef int64_t seen, spins, moved = 0
    while True:
        seen = tw_load(&ticket)
        if help_anyone(&moved):
            continue
        spins = 0
        while tw_load(&ticket) == seen and spins < (WORKER_SPINS if tw_load(&running) else IDLE_SPINS):
            spins += 1
            if spins % YIELD_SPINS == 0 and stands_in_the_way():
                tw_yield()
            tw_pause()
        if tw_load(&ticket) != seen:
            continue
        pthread_mutex_lock(&mutex)
        tw_add(&sleepers, 1)
        while tw_load(&ticket) == seen:
            pthread_cond_wait(&work_cond, &mutex)
        tw_add(&sleepers, -1)
        pthread_mutex_unlock(&mutex)


cdef void grow(int64_t wanted) noexcept nogil:
    """Start workers until `wanted` are alive; fewer where the system refuses threads."""
    global workers
    cdef pthread_t thread
    cdef pthread_attr_t attr
    pthread_mutex_lock(&mutex)
    pthread_attr_init(&attr)
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED)
    pthread_attr_setstacksize(&attr, STACK_BYTES)
    while workers < wanted and workers < MAX_THREADS:
        if pthread_create(&thread, &attr, worker, NULL) != 0:
            break
        workers += 1
    pthread_attr_destroy(&attr)
    pthread_mutex_unlock(&mutex)


cdef Slot *take_slot(int64_t helpers) noexcept nogil:
    """A free slot, or NULL when all are taken (the program then runs on its caller alone)."""
    cdef int64_t i, seen
    for i in range(SLOTS):
        if tw_cas(&slots[i].busy, 0, 1):
            tw_store(&slots[i].helpers, helpers)
            tw_add(&running, 1)
            seen = tw_load(&top)
            while seen <= i and not tw_cas(&top, seen, i + 1):
                seen = tw_load(&top)
            return &slots[i]
    return NULL


cdef void free_slot(Slot *slot) noexcept nogil:
    tw_add(&running, -1)
    tw_store(&slot.busy, 0)


cdef void open_step(Slot *slot, kernel_t kernel, const int64_t *args, int64_t first, int64_t tasks) noexcept nogil:
    """Offer tasks [first, first + tasks), at most MAX_TASKS, to all workers. None of the step before is left."""
    cdef int64_t epoch = (tw_load(&slot.claim) >> (2 * TASK_BITS)) + 1
    if epoch == EPOCHS:  # a worker that fell asleep in the slot must not take a later claim for the one it read
        epoch = 0
        while tw_load(&slot.helping):
            tw_yield()
    tw_set(&slot.kernel, <int64_t><uintptr_t>kernel)
    tw_set(&slot.args, <int64_t><uintptr_t>args)
    tw_set(&slot.first, first)
    tw_set(&slot.tasks, tasks)
    tw_set(&slot.cpu, tw_cpu())
    tw_set(&slot.done, 0)
    tw_store(&slot.claim, (epoch << (2 * TASK_BITS)) | (tasks << TASK_BITS))
    tw_add(&ticket, 1)
    if tw_load(&sleepers) > 0:
        pthread_mutex_lock(&mutex)
        pthread_cond_broadcast(&work_cond)
        pthread_mutex_unlock(&mutex)


cdef void await_helpers(Slot *slot, int64_t tasks) noexcept nogil:
    cdef int64_t spins = 0
    while tw_load(&slot.done) < tasks:
        spins += 1
        if spins < CALLER_SPINS:
            if spins % YIELD_SPINS == 0 and tw_load(&slot.helper_cpu) == tw_cpu():
                tw_yield()
            tw_pause()
            continue
        pthread_mutex_lock(&mutex)
        tw_store(&slot.waiting, 1)
        while tw_load(&slot.done) < tasks:
            pthread_cond_wait(&done_cond, &mutex)
        tw_store(&slot.waiting, 0)
        pthread_mutex_unlock(&mutex)


cdef void run_shared(Slot *slot, kernel_t kernel, const int64_t *args, int64_t first, int64_t tasks) noexcept nogil:
    """Run tasks [first, first + tasks) with whoever is free.

    A helper that the system stops amid a task, because other processes want its CPU, holds up the step for some
    milliseconds: more than it can give. After that, programs do without helpers for a while.
    """
    cdef int64_t start = now(), worked, waited
    open_step(slot, kernel, args, first, tasks)
    help_slot(slot, True)
    if tw_load(&slot.done) == tasks:
        return
    worked = now() - start
    await_helpers(slot, tasks)
    waited = now() - start - worked
    if waited > LATE_NS and waited > worked:
        tw_store(&alone_until, now() + ALONE_FACTOR * waited)


cdef void walk(const int64_t *code, int64_t steps, const int64_t *args, int64_t threads,
               int64_t *times) noexcept nogil:
    """Run `steps` rows (kernel address, first argument, tasks) of `code`; write nanoseconds a step to `times`."""
    cdef Slot *slot = NULL
    cdef kernel_t kernel
    cdef int64_t i, tasks, first, start = 0
    if threads > 1:
        if workers < threads - 1:
            grow(threads - 1)
        slot = take_slot(threads - 1)
    for i in range(steps):
        kernel = <kernel_t><uintptr_t>code[3 * i]
        tasks = code[3 * i + 2]
        if times != NULL:
            start = now()
        if slot == NULL or tasks == 1 or now() < tw_load(&alone_until):
            kernel(args + code[3 * i + 1], 0, tasks)
        else:
            first = 0
            while first < tasks:
                run_shared(slot, kernel, args + code[3 * i + 1], first, min(<int64_t>MAX_TASKS, tasks - first))
                first += MAX_TASKS
        if times != NULL:
            times[i] = now() - start
    if slot != NULL:
        free_slot(slot)


def run(const int64_t[::1] code, const int64_t[::1] args, int64_t threads, int64_t[::1] times=None):
    """Run a segment, the GIL released once.

    code: 3 int64 a step (kernel address, index of its first argument in `args`, number of tasks).
    threads: how many threads may work on it, the caller included.
    times: where given, nanoseconds a step are written there.
    """
    cdef int64_t steps = code.shape[0] // 3
    cdef int64_t *out = NULL
    if times is not None:
        if times.shape[0] < steps:
            raise ValueError(f"times holds {times.shape[0]} entries for {steps} steps")
        out = &times[0]
    if steps == 0:
        return
    with nogil:
        walk(&code[0], steps, &args[0], threads, out)


cdef class Signature:
    """What one array of an `Entry` must be, and the arguments that its address goes into.

    format: the buffer protocol's name of the dtype. positions: indices in the segment's arguments. offsets: bytes added
    to the address at each.
    """

    cdef bytes format
    cdef const int64_t[::1] dims, positions, offsets

    def __init__(self, bytes format, const int64_t[::1] dims, const int64_t[::1] positions,
                 const int64_t[::1] offsets):
        if positions.shape[0] != offsets.shape[0]:
            raise ValueError(f"expected as many offsets as positions, got {offsets.shape[0]}, {positions.shape[0]}")
        self.format, self.dims, self.positions, self.offsets = format, dims, positions, offsets

    cdef bint fits(self, Py_buffer *view) noexcept:
        """True for this dtype and shape, C-contiguous and aligned."""
        cdef int64_t i
        if view.ndim != self.dims.shape[0] or strcmp(view.format, <const char *>self.format) != 0:
            return False
        for i in range(view.ndim):
            if view.shape[i] != self.dims[i]:
                return False
        return <uintptr_t>view.buf % <uintptr_t>view.itemsize == 0 and PyBuffer_IsContiguous(view, b"C")

    cdef void write(self, int64_t *args, void *address) noexcept:
        cdef int64_t i
        for i in range(self.positions.shape[0]):
            args[self.positions[i]] = <int64_t><uintptr_t>address + self.offsets[i]

    cdef bint take(self, int64_t *args, object array) noexcept:
        """Write the address of an input; False, and nothing written, for one that does not fit."""
        cdef Py_buffer view
        try:
            PyObject_GetBuffer(array, &view, PyBUF_RECORDS_RO)
        except (BufferError, ValueError):  # a dtype that the protocol has no name for
            return False
        cdef bint fits = self.fits(&view)
        if fits:
            self.write(args, view.buf)
        PyBuffer_Release(&view)
        return fits

    cdef int put(self, int64_t *args, object array) except -1:
        """Write the address of an output made for this place."""
        cdef Py_buffer view
        PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
        self.write(args, view.buf)
        PyBuffer_Release(&view)
        return 0


cdef class Entry:
    """The short way into a segment that makes all outputs of a plan from all its inputs.

    code: as `run` takes it. inputs, outputs: a `Signature` each. array_type: what inputs must be, exactly.
    make_outputs: one callable an output. contexts: up to `keep` that no run uses; `make_context()` makes another. A
    context's `address` is where its arguments lie.
    """

    cdef const int64_t[::1] code
    cdef tuple inputs, outputs, make_outputs
    cdef object array_type, make_context
    cdef list contexts
    cdef int64_t keep

    def __init__(self, const int64_t[::1] code, tuple inputs, tuple outputs, type array_type, tuple make_outputs,
                 list contexts, int64_t keep, make_context):
        if code.shape[0] == 0 or code.shape[0] % 3 or len(outputs) != len(make_outputs):
            raise ValueError("expected code of 3 int64 a step, and one callable an output")
        self.code, self.inputs, self.outputs, self.array_type = code, inputs, outputs, array_type
        self.make_outputs, self.contexts, self.make_context = make_outputs, contexts, make_context
        self.keep = keep

    def __call__(self, arrays, int64_t threads):
        """A list of new outputs; None, and nothing done, where `arrays` do not fit."""
        if len(arrays) != len(self.inputs):
            return None
        try:
            context = self.contexts.pop()
        except IndexError:
            context = self.make_context()
        try:
            return self.run(<int64_t *><uintptr_t>context.address, arrays, threads)
        finally:
            if len(self.contexts) < self.keep:
                self.contexts.append(context)

    cdef list run(self, int64_t *args, arrays, int64_t threads):
        cdef int64_t i
        cdef list results = []
        for i, array in enumerate(arrays):
            if type(array) is not self.array_type or not (<Signature>self.inputs[i]).take(args, array):
                return None
        for i, make in enumerate(self.make_outputs):
            results.append(make())
            (<Signature>self.outputs[i]).put(args, results[i])
        with nogil:
            walk(&self.code[0], self.code.shape[0] // 3, args, threads, NULL)
        return results


def call(uintptr_t kernel, const int64_t[::1] args, int64_t begin, int64_t end):
    """Call one kernel on tasks [begin, end); for tests and measurements."""
    with nogil:
        (<kernel_t>kernel)(&args[0], begin, end)


def pool_threads():
    """Worker threads alive in this process, callers not counted."""
    return workers


def cpu_levels():
    """Names of the instruction-set levels that this CPU runs, best first."""
    cdef int level = tw_cpu_level()
    if level == 0:
        return ["base"]
    return [f"v{i}" for i in range(level, 1, -1)]


cdef void after_fork_in_child() noexcept nogil:
    reset()


if not ready:
    reset()
    pthread_atfork(NULL, NULL, after_fork_in_child)
