// What RocksDB asks of a C++ compiler: C++20 with its library, threads, and a link that works.
#include <concepts>
#include <filesystem>
#include <span>
#include <string>
#include <thread>

template <std::integral T>
static T twice(T number) { return number + number; }

int main() {
    std::string text = std::filesystem::path("a") / "b";
    std::span<const char> bytes(text.data(), text.size());
    std::size_t length = 0;
    std::thread worker([&] { length = twice(bytes.size()); });
    worker.join();
    return length == 6 ? 0 : 1;
}
