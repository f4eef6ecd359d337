// An ordered set of the entries of a memtable: a B-tree with wide nodes, for one writer and any
// number of readers, from which nothing is ever removed.
//
// A skip list reads an entry for each step of a search, and each lies elsewhere in memory. Here a
// node holds, beside pointers to its entries, eight bytes of each key, taken where the keys of the
// node begin to differ. A search reads one node per level and, mostly, no entry but the one found.
//
// Readers take no locks. Each node has a version, which is odd while it is changed; who finds a
// version changed behind what was read reads anew. Nodes and entries stay where they are until all
// are freed, so what is read meanwhile may be wrong but is never gone. A node keeps its lower half
// when it is split: who stands at it finds the rest by the link to the next one.
//
// What a reader must see was inserted before it began; of what is inserted meanwhile it may see any
// part. RocksDB hides that by sequence numbers.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <thread>
#include <utility>

namespace holdfast {

// Keys of a node. Enough for a few hundred thousand entries in four levels.
constexpr uint32_t kWidth = 64;
// Levels of a tree: 64 to the power of this is more than memory holds.
constexpr uint32_t kLevels = 16;
// So many entries before a walk comes to one, it is asked for.
constexpr uint32_t kAhead = 4;

// A key in RocksDB's order: by the user key, and of one user key the newest (the greatest tag)
// first. In memory the eight bytes of the tag follow the user key.
struct Key {
  const char* user;
  size_t length;
  uint64_t tag;

  static Key OfInternal(const char* data, size_t size) {
    Key key{data, size - sizeof(uint64_t), 0};
    for (size_t i = 0; i < sizeof(uint64_t); i++) {
      key.tag |= uint64_t{static_cast<unsigned char>(data[key.length + i])} << (8 * i);
    }
    return key;
  }

  // An entry begins with the length of its internal key, seven bits to the byte.
  static Key OfEntry(const char* entry) {
    size_t size = 0;
    for (uint32_t shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(*entry++);
      size |= size_t{byte & 127u} << shift;
      if (byte < 128) {
        return OfInternal(entry, size);
      }
    }
  }

  bool operator<(const Key& other) const {
    const int order = std::memcmp(user, other.user, std::min(length, other.length));
    if (order != 0) {
      return order < 0;
    }
    return length != other.length ? length < other.length : tag > other.tag;
  }

  // Eight bytes of the user key from there on as a number that sorts as they do; zeros for what
  // lies behind its end.
  uint64_t Head(size_t skip) const {
    if (skip >= length) {
      return 0;
    }
    uint64_t head;
    std::memcpy(&head, user + skip, sizeof head);  // The tag at least is behind it.
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    head = __builtin_bswap64(head);
#endif
    const size_t left = length - skip;
    return left < sizeof head ? head & (~uint64_t{0} << (8 * (sizeof head - left))) : head;
  }

  // How its first bytes compare with those of a key that has so many.
  int Against(const Key& other, size_t bytes) const {
    const size_t most = std::min({bytes, length, other.length});
    const int order = std::memcmp(user, other.user, most);
    return order == 0 && length < bytes ? -1 : order;
  }

  // How many bytes two user keys have in common.
  size_t Common(const Key& other) const {
    const size_t most = std::min(length, other.length);
    return static_cast<size_t>(std::mismatch(user, user + most, other.user).first - user);
  }
};

struct alignas(64) Node {
  // Odd while the node is changed.
  std::atomic<uint64_t> version{0};
  std::atomic<Node*> next{nullptr};  // Of a leaf.
  std::atomic<uint32_t> count{0};
  // All keys that are here have so many bytes in common; `heads` are from behind them.
  std::atomic<uint32_t> skip{0};
  const bool is_leaf;
  // So many bytes all keys have in common that may ever be here. For who inserts alone.
  uint32_t base = 0;
  // Where `skip` is more than `base`, an entry that begins with these bytes: a key may come, or be
  // searched for, that does not.
  std::atomic<const char*> sample{nullptr};
  std::atomic<uint64_t> heads[kWidth];
  // Entries; of an inner node the least one under the child behind it.
  std::atomic<const char*> keys[kWidth];

  explicit Node(bool leaf) : is_leaf(leaf) {
    for (uint32_t i = 0; i < kWidth; i++) {
      heads[i].store(0, std::memory_order_relaxed);
      keys[i].store(nullptr, std::memory_order_relaxed);
    }
  }

  // The version, once the node is not being changed.
  uint64_t Steady() const {
    for (uint32_t tries = 0;; tries++) {
      const uint64_t found = version.load(std::memory_order_acquire);
      if ((found & 1) == 0) {
        return found;
      }
      if (tries % 64 == 63) {
        std::this_thread::yield();
      }
    }
  }

  // Whether what was read since that version is what stood there.
  bool IsStill(uint64_t seen) const {
    std::atomic_thread_fence(std::memory_order_acquire);
    return version.load(std::memory_order_relaxed) == seen;
  }

  void BeginChange() {
    version.store(version.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
  }

  void EndChange() {
    version.store(version.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }

  uint32_t Count() const { return std::min(count.load(std::memory_order_relaxed), kWidth); }

  const char* At(uint32_t index) const { return keys[index].load(std::memory_order_acquire); }

  void Prefetch() const {
    const char* bytes = reinterpret_cast<const char*>(this);
    for (size_t at = 0; at < offsetof(Node, keys); at += 64) {
      __builtin_prefetch(bytes + at);
    }
  }

  // What a walk reads of a leaf.
  void PrefetchKeys() const {
    __builtin_prefetch(this);
    for (uint32_t at = 0; at < kWidth; at += 8) {
      __builtin_prefetch(&keys[at]);
    }
  }

  // How many keys are less. Some number, if the node is changed meanwhile.
  uint32_t Less(const Key& key) const {
    const uint32_t all = Count();
    if (const int order = Aside(key); order != 0) {
      return order < 0 ? 0 : all;
    }
    const uint64_t head = key.Head(skip.load(std::memory_order_relaxed));
    const uint32_t from = Heads(0, all, head, false);
    if (from == all || heads[from].load(std::memory_order_relaxed) != head) {
      return from;
    }
    // Keys that the eight bytes do not tell apart.
    uint32_t low = from, high = Heads(from, all, head, true);
    while (low < high) {
      const uint32_t middle = low + (high - low) / 2;
      const char* entry = At(middle);
      if (entry != nullptr && Key::OfEntry(entry) < key) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }

  // Less than 0 for a key that is less than all of the node because it begins otherwise, more than
  // 0 for one that is greater; 0 for one that begins as they do.
  int Aside(const Key& key) const {
    const char* one = sample.load(std::memory_order_acquire);
    return one == nullptr
               ? 0
               : key.Against(Key::OfEntry(one), skip.load(std::memory_order_relaxed));
  }

  // Whether the key there is less than one that begins as the keys of the node do.
  bool IsLess(uint32_t index, const Key& key) const {
    const uint64_t head = key.Head(skip.load(std::memory_order_relaxed));
    const uint64_t there = heads[index].load(std::memory_order_relaxed);
    return there != head ? there < head : Key::OfEntry(At(index)) < key;
  }

  void Set(uint32_t index, const char* entry) {
    const uint64_t head = Key::OfEntry(entry).Head(skip.load(std::memory_order_relaxed));
    heads[index].store(head, std::memory_order_relaxed);
    keys[index].store(entry, std::memory_order_release);
  }

  // Makes place for an entry there, and puts it in. Between `BeginChange` and `EndChange`.
  void Put(uint32_t index, const char* entry) {
    const uint32_t all = count.load(std::memory_order_relaxed);
    for (uint32_t i = all; i > index; i--) {
      heads[i].store(heads[i - 1].load(std::memory_order_relaxed), std::memory_order_relaxed);
      keys[i].store(keys[i - 1].load(std::memory_order_relaxed), std::memory_order_release);
    }
    Set(index, entry);
    count.store(all + 1, std::memory_order_relaxed);
    if (all == 0 || Aside(Key::OfEntry(entry)) != 0) {
      Align();
    }
  }

  // Keys that belong here lie between these; null is no bound.
  void Bound(const char* low, const char* high) {
    const bool is_open = low == nullptr || high == nullptr;
    const size_t common = is_open ? 0 : Key::OfEntry(low).Common(Key::OfEntry(high));
    base = static_cast<uint32_t>(common);
    Align();
  }

 private:
  // Chooses which bytes of the keys are their heads: those behind what the bounds have in common,
  // unless the first and the last key have the same ones. That is so where a node has no bound, or
  // a bound that belongs to something else, as behind the last entry of a stream.
  void Align() {
    const uint32_t all = count.load(std::memory_order_relaxed);
    size_t common = base;
    const char* one = nullptr;
    if (all > 0) {
      const char* first = keys[0].load(std::memory_order_relaxed);
      const Key least = Key::OfEntry(first);
      const Key most = Key::OfEntry(keys[all - 1].load(std::memory_order_relaxed));
      if (least.Head(base) == most.Head(base)) {
        common = least.Common(most);
        one = first;
      }
    }
    skip.store(static_cast<uint32_t>(common), std::memory_order_relaxed);
    sample.store(one, std::memory_order_release);
    for (uint32_t i = 0; i < all; i++) {
      Set(i, keys[i].load(std::memory_order_relaxed));
    }
  }

  // The first place from `from` on whose head is not less than `head`; `or_equal`: is greater.
  uint32_t Heads(uint32_t from, uint32_t to, uint64_t head, bool or_equal) const {
    while (from < to) {
      const uint32_t middle = from + (to - from) / 2;
      const uint64_t found = heads[middle].load(std::memory_order_relaxed);
      const bool is_less = found < head || (or_equal && found == head);
      from = is_less ? middle + 1 : from;
      to = is_less ? to : middle;
    }
    return from;
  }
};

struct Inner : Node {
  std::atomic<Node*> children[kWidth + 1];

  Inner() : Node(false) {
    for (auto& child : children) {
      child.store(nullptr, std::memory_order_relaxed);
    }
  }

  static Inner* Of(Node* node) { return static_cast<Inner*>(node); }

  Node* Child(uint32_t index) const { return children[index].load(std::memory_order_acquire); }

  // A separator, and what is right of it.
  void PutChild(uint32_t index, const char* separator, Node* right) {
    for (uint32_t i = count.load(std::memory_order_relaxed); i > index; i--) {
      children[i + 1].store(children[i].load(std::memory_order_relaxed),
                            std::memory_order_release);
    }
    children[index + 1].store(right, std::memory_order_release);
    Put(index, separator);
  }
};

// Memory that is given back as a whole: `Allocate(bytes)`, aligned as `malloc` does.
template <typename Memory>
class Tree {
 public:
  explicit Tree(Memory memory) : memory_(memory) {}
  Tree(const Tree&) = delete;
  void operator=(const Tree&) = delete;

  // Adds an entry that is not there. One at a time.
  void Insert(const char* entry) {
    const Key key = Key::OfEntry(entry);
    size_.store(size() + 1, std::memory_order_relaxed);
    const char* before = std::exchange(newest_, entry);
    if (const uint32_t index = Beside(key, before); index < kWidth) {
      return Put(index, entry);
    }
    Node* node = root_.load(std::memory_order_relaxed);
    if (node == nullptr) {
      node = New<Node>(true);
      node->Put(0, entry);
      root_.store(node, std::memory_order_release);
      return;
    }
    Path path;
    const char *low = nullptr, *high = nullptr;
    while (!node->is_leaf) {
      const uint32_t index = node->Less(key);
      path.steps[path.depth++] = {Inner::Of(node), index, low, high};
      low = index > 0 ? node->At(index - 1) : low;
      high = index < node->Count() ? node->At(index) : high;
      node = Inner::Of(node)->Child(index);
      node->Prefetch();
    }
    const uint32_t index = node->Less(key);
    if (node->Count() == kWidth) {
      last_ = {};
      return Split(node, index, entry, before, low, high, &path);
    }
    last_ = {node, index, low, high};
    Put(index, entry);
  }

  // A place in the order; goes on from where it is whatever is inserted.
  class Cursor {
   public:
    explicit Cursor(const Tree& tree) : tree_(tree) {}

    // The entry; null behind either end.
    const char* entry() const { return entry_; }

    // To the first entry that is not less.
    void Seek(const Key& key) {
      while (!Descend([&](const Node& node) { return node.Less(key); }) || !Settle()) {
      }
    }

    // To the last entry that is less.
    void SeekLess(const Key& key) {
      while (!Descend([&](const Node& node) { return node.Less(key); }) || !StepBack()) {
      }
    }

    void SeekToFirst() {
      while (!Descend([](const Node&) { return 0; }) || !Settle()) {
      }
    }

    void SeekToLast() {
      while (!Descend([](const Node& node) { return node.Count(); }) || !StepBack()) {
      }
    }

    void Next() {
      const char* here = entry_;
      for (index_++; !Settle(); index_++) {
        Seek(Key::OfEntry(here));
      }
      Ahead();
    }

    void Prev() {
      // Before the first of a leaf stands what only a search finds.
      if (index_ == 0 || !StepBack()) {
        SeekLess(Key::OfEntry(entry_));
      }
    }

   private:
    // Entries lie in memory as they came, so a walk (a flush is one) would wait for each of them.
    // What a leaf says that is being changed may be another entry, and none is read here.
    void Ahead() const {
      const Node* node = leaf_;
      if (node == nullptr) {
        return;
      }
      const Node* next = node->next.load(std::memory_order_acquire);
      if (next != nullptr && index_ == 0) {
        next->PrefetchKeys();
      }
      uint32_t index = index_ + kAhead;
      if (const uint32_t all = node->Count(); index >= all) {
        node = next;
        index -= all;
      }
      const char* entry = node == nullptr || index >= kWidth ? nullptr : node->At(index);
      if (entry != nullptr) {
        __builtin_prefetch(entry);
        __builtin_prefetch(entry + 64);
      }
    }

    // To the place that `choose` names in a leaf; false if something changed on the way.
    template <typename Choose>
    bool Descend(Choose choose) {
      const Node* node = tree_.root_.load(std::memory_order_acquire);
      leaf_ = node;
      if (node == nullptr) {
        return true;
      }
      uint64_t version = node->Steady();
      if (node != tree_.root_.load(std::memory_order_acquire)) {
        return false;
      }
      while (!node->is_leaf) {
        const Node* child = static_cast<const Inner*>(node)->Child(choose(*node));
        if (child == nullptr) {
          return false;
        }
        child->Prefetch();
        // The child's version is one of a time when it was still this node's child there.
        const uint64_t of_child = child->Steady();
        if (!node->IsStill(version)) {
          return false;
        }
        node = child;
        version = of_child;
      }
      leaf_ = node;
      version_ = version;
      index_ = choose(*node);
      return true;
    }

    // Finds the entry of the place; false if the leaf has changed.
    bool Settle() {
      if (leaf_ == nullptr) {
        entry_ = nullptr;
        return true;
      }
      while (index_ >= leaf_->Count()) {
        const Node* next = leaf_->next.load(std::memory_order_acquire);
        const uint64_t version = next == nullptr ? 0 : next->Steady();
        if (!leaf_->IsStill(version_)) {
          return false;
        }
        if (next == nullptr) {
          entry_ = nullptr;
          return true;
        }
        leaf_ = next;
        version_ = version;
        index_ = 0;
      }
      const char* found = leaf_->At(index_);
      if (!leaf_->IsStill(version_)) {
        return false;
      }
      entry_ = found;
      return true;
    }

    // The entry before the place; false if the leaf has changed. None is before the first of a
    // leaf that was searched for: only the first leaf of all has none that is less.
    bool StepBack() {
      const bool is_none = leaf_ == nullptr || index_ == 0;
      const char* found = is_none ? nullptr : leaf_->At(std::min(index_, kWidth) - 1);
      if (leaf_ != nullptr && !leaf_->IsStill(version_)) {
        return false;
      }
      index_ -= is_none ? 0 : 1;
      entry_ = found;
      return true;
    }

    const Tree& tree_;
    const Node* leaf_ = nullptr;
    uint64_t version_ = 0;
    uint32_t index_ = 0;
    const char* entry_ = nullptr;
  };

  // About which part of all entries is less.
  double Share(const Key& key) const {
    const Node* node = root_.load(std::memory_order_acquire);
    double share = 0, part = 1;
    while (node != nullptr && !node->is_leaf) {
      const uint32_t index = node->Less(key);
      part /= node->Count() + 1;
      share += part * index;
      node = static_cast<const Inner*>(node)->Child(index);
    }
    return node == nullptr ? share : share + part * node->Less(key) / std::max(node->Count(), 1u);
  }

  uint64_t size() const { return size_.load(std::memory_order_relaxed); }

 private:
  // The way from the root to a leaf: of each inner node the child taken, and between which keys
  // all of the node lies.
  struct Step {
    Inner* node;
    uint32_t index;
    const char *low, *high;
  };
  struct Path {
    Step steps[kLevels];
    uint32_t depth = 0;
  };

  // Where the entry stands that was put in last, and between which keys all of its leaf lies; no
  // leaf where that was split.
  struct Place {
    Node* leaf = nullptr;
    uint32_t index = 0;
    const char *low = nullptr, *high = nullptr;
  };

  // The place of a key in the leaf of `newest`, which was put in last, if it belongs right before
  // or behind that and the leaf has room; `kWidth` if not. Of keys that lie elsewhere it costs one
  // look at what was just written.
  uint32_t Beside(const Key& key, const char* newest) const {
    const auto [leaf, at, low, high] = last_;
    const uint32_t all = leaf == nullptr ? kWidth : leaf->Count();
    if (all == kWidth) {
      return kWidth;
    }
    const uint32_t skip = leaf->skip.load(std::memory_order_relaxed);
    if (key.Against(Key::OfEntry(newest), skip) != 0) {
      return kWidth;
    }
    if (leaf->IsLess(at, key)) {
      const bool is_there = at + 1 < all ? !leaf->IsLess(at + 1, key)
                                         : high == nullptr || key < Key::OfEntry(high);
      return is_there ? at + 1 : kWidth;
    }
    const bool is_there =
        at > 0 ? leaf->IsLess(at - 1, key) : low == nullptr || !(key < Key::OfEntry(low));
    return is_there ? at : kWidth;
  }

  // Puts an entry into the leaf of `last_`, which has room.
  void Put(uint32_t index, const char* entry) {
    last_.index = index;
    last_.leaf->BeginChange();
    last_.leaf->Put(index, entry);
    last_.leaf->EndChange();
  }

  template <typename T, typename... Arguments>
  T* New(Arguments... arguments) {
    const auto raw = reinterpret_cast<uintptr_t>(memory_.Allocate(sizeof(T) + alignof(T)));
    return new (reinterpret_cast<void*>((raw + alignof(T) - 1) & ~(alignof(T) - 1)))
        T(arguments...);
  }

  // Splits a full leaf and puts the entry in; `before` was put in last.
  void Split(Node* leaf, uint32_t index, const char* entry, const char* before, const char* low,
             const char* high, Path* path) {
    // All that is going to change, before any of it does: who sees half of it reads anew.
    Node* changed[kLevels + 1] = {leaf};
    uint32_t count = 1;
    for (uint32_t level = path->depth; level > 0; level--) {
      Inner* node = path->steps[level - 1].node;
      changed[count++] = node;
      if (node->Count() < kWidth) {
        break;
      }
    }
    std::for_each(changed, changed + count, [](Node* node) { node->BeginChange(); });
    // Where keys come in order, ascending or descending, nodes are left full. Keys that descend
    // behind a full leaf would all come to its end, and get a leaf each: they are no such order.
    const bool ascends = index == kWidth && leaf->At(kWidth - 1) == before;
    const uint32_t at = index == 0 || ascends ? index : kWidth / 2;
    const char* separator = at == kWidth ? entry : leaf->At(at);
    Node* right = New<Node>(true);
    Move(leaf, at, right);
    right->next.store(leaf->next.load(std::memory_order_relaxed), std::memory_order_relaxed);
    leaf->next.store(right, std::memory_order_release);
    leaf->Bound(low, separator);
    right->Bound(separator, high);
    if (index > at || at == kWidth) {
      right->Put(index - at, entry);
    } else {
      leaf->Put(index, entry);
    }
    Raise(leaf, separator, right, path);
    std::for_each(changed, changed + count, [](Node* node) { node->EndChange(); });
  }

  // Puts the right half of a node that was split beside it in its parent, which may split too.
  void Raise(Node* left, const char* separator, Node* right, Path* path) {
    if (path->depth == 0) {
      Inner* root = New<Inner>();
      root->children[0].store(left, std::memory_order_release);
      root->PutChild(0, separator, right);
      root_.store(root, std::memory_order_release);
      return;
    }
    const auto [node, index, low, high] = path->steps[--path->depth];
    if (node->Count() < kWidth) {
      return node->PutChild(index, separator, right);
    }
    // The key at `at` goes up.
    const uint32_t at = index == 0 ? 0 : index == kWidth ? kWidth - 1 : kWidth / 2;
    const char* raised = node->At(at);
    Inner* beside = New<Inner>();
    for (uint32_t i = at + 1; i <= kWidth; i++) {
      beside->children[i - at - 1].store(node->Child(i), std::memory_order_release);
    }
    Move(node, at + 1, beside);
    node->count.store(at, std::memory_order_relaxed);
    node->Bound(low, raised);
    beside->Bound(raised, high);
    if (index > at) {
      beside->PutChild(index - at - 1, separator, right);
    } else {
      node->PutChild(index, separator, right);
    }
    Raise(node, raised, beside, path);
  }

  // The keys from there on go to an empty node.
  static void Move(Node* from, uint32_t at, Node* to) {
    for (uint32_t i = at; i < kWidth; i++) {
      to->keys[i - at].store(from->At(i), std::memory_order_release);
    }
    to->count.store(kWidth - at, std::memory_order_relaxed);
    from->count.store(at, std::memory_order_relaxed);
  }

  Memory memory_;
  std::atomic<Node*> root_{nullptr};
  std::atomic<uint64_t> size_{0};
  // Put in last, and where; for who inserts alone.
  const char* newest_ = nullptr;
  Place last_;
};

}  // namespace holdfast
