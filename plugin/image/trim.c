/*
 * Preloaded into qemu-storage-daemon so that a discard frees blocks of the volume's file.
 *
 * A discard of the loop device reaches QEMU's FUSE export as fallocate(PUNCH_HOLE), which QEMU does only if the
 * driver below promises a fast path (BDRV_REQ_NO_FALLBACK); its iSCSI driver never promises that, although the
 * target can unmap (QEMU 10.0, block/export/fuse.c and block/iscsi.c). So fstrim would say "not supported".
 * Two calls at library boundaries cure it:
 *
 * 1. fuse_session_process_buf: a PUNCH_HOLE request becomes ZERO_RANGE, which QEMU hands down without the
 *    promise. The layout is the kernel's FUSE ABI (linux/fuse.h), not libfuse's insides.
 * 2. iscsi_writesame10_task, iscsi_writesame16_task: QEMU uses WRITE SAME to write zeroes only, so UNMAP is
 *    set. Our target answers reads of unmapped blocks with zeroes (LBPRZ), so the bytes are the same.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

struct fuse_session;
struct iscsi_context;

/* struct fuse_buf of libfuse 3 (fuse_common.h). */
struct fuse_buf {
    size_t size;
    int flags;
    void *mem;
    int fd;
    off_t pos;
};

typedef void (*process_buf)(struct fuse_session *, const struct fuse_buf *);
typedef void *(*writesame10)(struct iscsi_context *, int, uint32_t, unsigned char *, uint32_t, uint16_t, int, int,
                             int, int, void *, void *);
typedef void *(*writesame16)(struct iscsi_context *, int, uint64_t, unsigned char *, uint32_t, uint32_t, int, int,
                             int, int, void *, void *);

static process_buf real_process_buf;
static writesame10 real_writesame10;
static writesame16 real_writesame16;

static void *symbol(void *library, const char *name)
{
    void *found = library ? dlsym(library, name) : NULL;
    if (!found) {
        fprintf(stderr, "openebs trim: %s is missing: this QEMU or libiscsi is not the one it was made for\n", name);
        _exit(127);
    }
    return found;
}

/* All is looked up at start, so that what is missing is known before any data moves. QEMU loads its iSCSI
 * module, and with it libiscsi, out of sight of RTLD_NEXT: hence a handle of our own. */
__attribute__((constructor)) static void find_real_functions(void)
{
    void *libiscsi = dlopen("libiscsi.so.7", RTLD_NOW);
    real_process_buf = (process_buf)symbol(RTLD_NEXT, "fuse_session_process_buf");
    real_writesame10 = (writesame10)symbol(libiscsi, "iscsi_writesame10_task");
    real_writesame16 = (writesame16)symbol(libiscsi, "iscsi_writesame16_task");
}

void fuse_session_process_buf(struct fuse_session *session, const struct fuse_buf *buffer)
{
    const size_t whole = sizeof(struct fuse_in_header) + sizeof(struct fuse_fallocate_in);
    if (buffer->flags == 0 && buffer->size >= whole) {
        struct fuse_in_header *header = buffer->mem;
        if (header->opcode == FUSE_FALLOCATE) {
            struct fuse_fallocate_in *request = (struct fuse_fallocate_in *)(header + 1);
            if (request->mode & FALLOC_FL_PUNCH_HOLE)
                request->mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
        }
    }
    real_process_buf(session, buffer);
}

void *iscsi_writesame10_task(struct iscsi_context *iscsi, int lun, uint32_t lba, unsigned char *data,
                             uint32_t length, uint16_t blocks, int anchor, int unmap, int protect, int group,
                             void *done, void *opaque)
{
    (void)unmap;
    return real_writesame10(iscsi, lun, lba, data, length, blocks, anchor, 1, protect, group, done, opaque);
}

void *iscsi_writesame16_task(struct iscsi_context *iscsi, int lun, uint64_t lba, unsigned char *data,
                             uint32_t length, uint32_t blocks, int anchor, int unmap, int protect, int group,
                             void *done, void *opaque)
{
    (void)unmap;
    return real_writesame16(iscsi, lun, lba, data, length, blocks, anchor, 1, protect, group, done, opaque);
}
