/*
 * Preloaded into tgtd so that a pool without space is a full disk to the users of its volumes, not a broken one.
 *
 * A volume's file is sparse: a write may need blocks that its pool does not have. tgtd answers any write that fails
 * with MEDIUM ERROR, which ends as EIO; and when what fails is a block of a file system's own metadata, that file
 * system goes read-only. Two calls of libc are wrapped:
 *
 * 1. pwrite64: a bulk write that needs new blocks is refused while its pool has less than RESERVE_BYTES free. Much
 *    data is written in bulk, metadata in single blocks, and ext4's journal, where blocks run together too, is known
 *    by its place. So what is left is there for them: the writer is refused and the file system lives on. It is no
 *    promise: small writes of data may use up the rest as well. The plugin calls a pool with so little space full
 *    (pools.ts).
 * 2. write: the answer to a write that was refused for want of space says so, "space allocation failed" instead of
 *    "unrecovered error"; QEMU, the loop device and the kernel hand that on as ENOSPC.
 *    An answer is two writes: the 48 bytes of a SCSI Response (RFC 7143, 11.4), then the sense data (SPC-4, 4.5.3)
 *    after its length.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define RESERVE_BYTES (64ull << 20)
#define BULK_BYTES 65536

enum { HEADER_BYTES = 48, RESPONSE = 0x21, CHECK_CONDITION = 2 };
enum { SENSE_AT = 2, KEY_AT = SENSE_AT + 2, CODE_AT = SENSE_AT + 12, QUALIFIER_AT = SENSE_AT + 13 };
enum { FIXED_FORMAT = 0x70, MEDIUM_ERROR = 0x3, DATA_PROTECT = 0x7 };

static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static ssize_t (*real_write)(int, const void *, size_t);
/* Refused for want of space, and not answered yet. */
static atomic_int refused;
/* The connection whose response has begun; tgtd answers from one thread. */
static int responding = -1;

static void *symbol(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) {
        fprintf(stderr, "openebs space: %s is missing: this libc is not the one it was made for\n", name);
        _exit(127);
    }
    return found;
}

__attribute__((constructor)) static void find_real_functions(void)
{
    real_pwrite = (ssize_t(*)(int, const void *, size_t, off64_t))symbol("pwrite64");
    real_write = (ssize_t(*)(int, const void *, size_t))symbol("write");
}

static uint32_t le16(const uint8_t *at) { return at[0] | (uint32_t)at[1] << 8; }
static uint32_t le32(const uint8_t *at) { return le16(at) | le16(at + 2) << 16; }

/* Whether the write begins in ext4's journal, whose extents stand in the superblock too (s_jnl_blocks: an extent
 * header and up to four extents, as in an inode; more than that is not followed). */
static int is_journal(int fd, off64_t offset)
{
    enum { SUPERBLOCK_AT = 1024, MAGIC_AT = 0x38, BLOCK_SIZE_AT = 0x18, BACKUP_TYPE_AT = 0xfd, BLOCKS_AT = 0x10c };
    enum { HEADER = 12, EXTENT = 12, MOST_EXTENTS = 4, EXT4_MAGIC = 0xef53, EXTENT_MAGIC = 0xf30a };
    uint8_t super[1024];
    if (pread64(fd, super, sizeof super, SUPERBLOCK_AT) != sizeof super)
        return 0;
    const uint8_t *blocks = super + BLOCKS_AT;
    if (le16(super + MAGIC_AT) != EXT4_MAGIC || super[BACKUP_TYPE_AT] != 1 || le16(blocks) != EXTENT_MAGIC)
        return 0;
    const uint32_t count = le16(blocks + 2);
    const uint32_t depth = le16(blocks + 6);
    const uint64_t block = (uint64_t)offset >> (10 + le32(super + BLOCK_SIZE_AT));
    for (uint32_t i = 0; depth == 0 && i < count && i < MOST_EXTENTS; i++) {
        const uint8_t *extent = blocks + HEADER + i * EXTENT;
        const uint64_t first = le32(extent + 8) | (uint64_t)le16(extent + 6) << 32;
        if (block >= first && block < first + le16(extent + 4))
            return 1;
    }
    return 0;
}

static int needs_blocks(int fd, size_t length, off64_t offset)
{
    const off64_t hole = lseek64(fd, offset, SEEK_HOLE);
    return hole >= 0 && hole < offset + (off64_t)length;
}

static int is_short_of_space(int fd)
{
    struct statvfs pool;
    return fstatvfs(fd, &pool) == 0 && (uint64_t)pool.f_bavail * pool.f_frsize < RESERVE_BYTES;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
    if (length >= BULK_BYTES && is_short_of_space(fd) && needs_blocks(fd, length, offset) && !is_journal(fd, offset)) {
        atomic_fetch_add(&refused, 1);
        errno = ENOSPC;
        return -1;
    }
    ssize_t written = real_pwrite(fd, data, length, offset);
    /* The kernel writes what it has room for; asked for the rest it says why there is no more. */
    if (written >= 0 && (size_t)written < length) {
        const ssize_t more = real_pwrite(fd, (const char *)data + written, length - written, offset + written);
        written = more < 0 ? -1 : written + more;
    }
    if (written < 0 && (errno == ENOSPC || errno == EDQUOT))
        atomic_fetch_add(&refused, 1);
    return written;
}

static void name_the_reason(uint8_t *answer, size_t length)
{
    if (length <= QUALIFIER_AT || (answer[SENSE_AT] & 0x7f) != FIXED_FORMAT || (answer[KEY_AT] & 0xf) != MEDIUM_ERROR)
        return;
    atomic_fetch_sub(&refused, 1);
    answer[KEY_AT] = (answer[KEY_AT] & 0xf0) | DATA_PROTECT;
    answer[CODE_AT] = 0x27;
    answer[QUALIFIER_AT] = 0x07;
}

ssize_t write(int fd, const void *data, size_t length)
{
    if (fd == responding && atomic_load(&refused) > 0)
        name_the_reason((uint8_t *)data, length);
    const ssize_t written = real_write(fd, data, length);
    if (written < 0)
        return written;
    const uint8_t *header = data;
    const int begins = written == HEADER_BYTES && (header[0] & 0x3f) == RESPONSE && header[3] == CHECK_CONDITION;
    if (begins)
        responding = fd;
    else if (fd == responding)
        responding = -1;
    return written;
}
