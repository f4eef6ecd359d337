/* What rocksdb/c.h includes: stddef.h is clang's own header, stdint.h the C library's. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

size_t probe(uint64_t number, bool flag);
