// A vector of fixed memory: pointers into it last, new elements are zero, and more than it has room for is an error.
#include "../runtime/fixed_vector.h"

#include "testing.h"

namespace convgate::testing {
namespace {

template <typename Function>
bool refuses(Function f) {
    try {
        f();
    } catch (const std::logic_error&) {
        return true;
    }
    return false;
}

}  // namespace

void test_fixed_vector(Random& random) {
    const int room = random.from(1, 40), some = random.from(0, room);
    FixedVector<int> list(room);
    int* const memory = list.data();
    for (int i = 0; i < some; i++) list.push_back(i + 1);
    require(list.size() == static_cast<std::size_t>(some) && list.empty() == (some == 0), "its size is not what was put into it");
    list.resize(room);
    for (int i = 0; i < room; i++) require(list[i] == (i < some ? i + 1 : 0), "element ", i, " is ", list[i]);
    require(refuses([&] { list.push_back(1); }) && refuses([&] { list.resize(room + 1); }), "it takes more than it has room for");
    require(list.size() == static_cast<std::size_t>(room), "what was refused changed it");
    list.clear();
    list.push_back(7);
    require(list.data() == memory && list.begin() == memory && list.end() == memory + 1 && *memory == 7, "its memory moved");
    list.resize(2 <= room ? 2 : 1);
    require(room < 2 || list[1] == 0, "an element of before came back");
    require(refuses([] { FixedVector<int>(0).push_back(1); }), "an empty one has room");
}

}  // namespace convgate::testing
