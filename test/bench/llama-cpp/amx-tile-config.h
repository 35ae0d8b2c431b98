/* GCC 12 tells its optimiser that _tile_loadconfig reads 8 of the 64 bytes of a tile configuration, so the stores of the
   others vanish and the first tile instruction after it is illegal. This says how much is read. */
#ifdef __AMX_TILE__
#include <immintrin.h>
#undef _tile_loadconfig
#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg %0" ::"m"(*(const char (*)[64])(config)))
#endif
