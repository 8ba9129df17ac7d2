#include "costs.h"

#if defined(__linux__)
#include <unistd.h>
#endif

namespace convgate::costs {

std::size_t second_cache() {
    static const std::size_t found = [] {
        long bytes = 0;
#if defined(_SC_LEVEL2_CACHE_SIZE)
        bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
        // Where several cores share it, it is said to be larger than what one of them has.
        return bytes > 0 ? std::clamp<std::size_t>(static_cast<std::size_t>(bytes), 256 << 10, 2 << 20) : std::size_t{1} << 20;
    }();
    return found;
}

}  // namespace convgate::costs
