// Runs a verilated design through whole transactions: words into its input streams, words out of its output streams, and tokens
// along its open links, each with its own random stalls. One call a batch; Python never sees a cycle.
//
// The build puts in front of this file: `Top` (the verilated class), `kInputs`, `kOutputs`, `kLinks`, and for stream k
//   set_input(top, k, valid, payload), input_ready(top, k), set_ready(top, k, ready), output_valid(top, k), output_payload(top, k),
// and set_selector(top, value), set_idle(top) (a UART's line is high), read_status(top, words).
// Link k joins output stream kOutputs + k to input stream kInputs + k: a queue in this file, in which tokens can be placed, changed and seen.

#include <cstdint>
#include <deque>
#include <vector>

namespace {

// xorshift64*: the stalls of a run are a function of its seed alone.
struct Random {
    uint64_t state;
    explicit Random(uint64_t seed) : state(seed * 0x9E3779B97F4A7C15ull + 0x632BE59BD9B4E019ull) {}
    bool chance(uint32_t in_256) {
        if (in_256 == 0) return false;
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return ((state * 0x2545F4914F6CDD1Dull) >> 56) < in_256;
    }
    // A stream's rule is a chance in 256; what is above 256 counts cycles for which it is closed, before it is open for good.
    bool stalls(uint32_t rule, uint64_t passed) { return rule > 256 ? passed < rule - 256 : chance(rule); }
};

struct Source {
    const uint64_t* words = nullptr;
    uint64_t count = 0, sent = 0;
    bool offered = false;
};

struct Sink {
    uint64_t* words = nullptr;
    uint64_t* cycles = nullptr;  // cycle of each transfer, if asked for
    uint64_t count = 0, got = 0;
};

struct Link {
    std::deque<uint64_t> tokens;
    uint64_t capacity = 0;
    bool offered = false, ready = false;
    std::vector<uint64_t> seen;
};

struct Context {
    VerilatedContext verilated;
    Top* top;
    uint64_t cycle = 0;
    Link links[kLinks + 1];
    Context(uint64_t seed, bool randomize) {
        verilated.randReset(randomize ? 2 : 0);
        verilated.randSeed(static_cast<int>(seed % 0x7ffffffe) + 1);
        top = new Top(&verilated);
    }
    ~Context() { top->final(); delete top; }
};

void clock_edge(Context* c) {
    c->top->clk = 1;
    c->top->eval();
    c->top->clk = 0;
    c->cycle++;
}

// Links drive before a cycle is looked at, and move with its edge; in `stalls` each has one for the token that it offers and one for
// the token that it takes.
void drive_links(Context* c, Random& random, const uint32_t* stalls, uint64_t passed) {
    for (int k = 0; k < kLinks; k++) {
        Link& l = c->links[k];
        if (!l.offered && !l.tokens.empty() && !random.stalls(stalls[2 * k], passed)) l.offered = true;
        l.ready = (l.capacity == 0 || l.tokens.size() < l.capacity) && !random.stalls(stalls[2 * k + 1], passed);
        set_input(c->top, kInputs + k, l.offered, l.offered ? l.tokens.front() : 0);
        set_ready(c->top, kOutputs + k, l.ready);
    }
}

void move_links(Context* c) {
    for (int k = 0; k < kLinks; k++) {
        Link& l = c->links[k];
        bool taken = l.offered && input_ready(c->top, kInputs + k);
        bool arrives = l.ready && output_valid(c->top, kOutputs + k);
        if (taken) {
            l.tokens.pop_front();
            l.offered = false;
        }
        if (arrives) {
            l.tokens.push_back(output_payload(c->top, kOutputs + k));
            l.seen.push_back(l.tokens.back());
        }
    }
}

}  // namespace

extern "C" {

// randomize: registers and memories start with random contents (builds with --x-initial unique).
// select: the value of the selector port, if the design has one.
void* dyad_create(uint64_t seed, int randomize, uint64_t select) {
    Context* c = new Context(seed, randomize != 0);
    c->top->clk = 0;
    set_selector(c->top, select);
    set_idle(c->top);
    for (int k = 0; k < kInputs + kLinks; k++) set_input(c->top, k, 0, 0);
    for (int k = 0; k < kOutputs + kLinks; k++) set_ready(c->top, k, 0);
    c->top->rst = 1;
    c->top->eval();
    clock_edge(c);  // one cycle of reset is enough
    c->top->rst = 0;
    c->top->eval();
    c->cycle = 0;
    return c;
}

void dyad_destroy(void* handle) { delete static_cast<Context*>(handle); }

uint64_t dyad_cycle(void* handle) { return static_cast<Context*>(handle)->cycle; }

void dyad_status(void* handle, uint64_t* words) { read_status(static_cast<Context*>(handle)->top, words); }

// Tokens of link k: place one at its end; change one by its position; take what has passed since the last call.
void dyad_link_push(void* handle, int k, uint64_t token) { static_cast<Context*>(handle)->links[k].tokens.push_back(token); }
void dyad_link_capacity(void* handle, int k, uint64_t capacity) { static_cast<Context*>(handle)->links[k].capacity = capacity; }
uint64_t dyad_link_held(void* handle, int k) { return static_cast<Context*>(handle)->links[k].tokens.size(); }
void dyad_link_flip(void* handle, int k, uint64_t position, uint64_t mask) {
    static_cast<Context*>(handle)->links[k].tokens[position] ^= mask;
}
uint64_t dyad_link_seen(void* handle, int k, uint64_t* words, uint64_t limit) {
    std::vector<uint64_t>& seen = static_cast<Context*>(handle)->links[k].seen;
    uint64_t count = seen.size();
    for (uint64_t i = 0; i < count && i < limit; i++) words[i] = seen[i];
    if (count <= limit) seen.clear();
    return count;
}

// Run until every input word is taken and every expected output word has come; or until none of them has moved for `patience` cycles (returns 1): tokens along links alone are no progress, a
// faulty design can send them for ever. Stalls are a rule (Random::stalls) a stream: inputs, outputs, then two a link.
int dyad_run(void* handle, const uint64_t* const* in_words, const uint64_t* in_counts, uint64_t* const* out_words,
             uint64_t* const* out_cycles, const uint64_t* out_counts, uint64_t* moved_in, uint64_t* moved_out,
             const uint32_t* stalls, uint64_t seed, uint64_t patience) {
    Context* c = static_cast<Context*>(handle);
    Top* top = c->top;
    Source sources[kInputs + 1];
    Sink sinks[kOutputs + 1];
    bool ready[kOutputs + 1] = {};
    Random random(seed);
    uint64_t open = 0;
    for (int k = 0; k < kInputs; k++) {
        sources[k].words = in_words[k];
        sources[k].count = in_counts[k];
        open += in_counts[k];
    }
    for (int k = 0; k < kOutputs; k++) {
        sinks[k].words = out_words[k];
        sinks[k].cycles = out_cycles[k];
        sinks[k].count = out_counts[k];
        open += out_counts[k];
    }
    uint64_t quiet = 0;
    int result = 0;
    for (uint64_t passed = 0; open; passed++) {
        // Drive. A word that is offered stays until it is taken.
        for (int k = 0; k < kInputs; k++) {
            Source& s = sources[k];
            if (!s.offered && s.sent < s.count && !random.stalls(stalls[k], passed)) s.offered = true;
            set_input(top, k, s.offered, s.offered ? s.words[s.sent] : 0);
        }
        for (int k = 0; k < kOutputs; k++) {
            ready[k] = sinks[k].got < sinks[k].count && !random.stalls(stalls[kInputs + k], passed);
            set_ready(top, k, ready[k]);
        }
        drive_links(c, random, stalls + kInputs + kOutputs, passed);
        top->eval();
        // Look: what moves with this edge.
        bool moved = false;
        for (int k = 0; k < kInputs; k++) {
            Source& s = sources[k];
            if (s.offered && input_ready(top, k)) {
                s.sent++;
                s.offered = false;
                open--;
                moved = true;
            }
        }
        for (int k = 0; k < kOutputs; k++) {
            Sink& s = sinks[k];
            if (ready[k] && output_valid(top, k)) {
                if (s.cycles) s.cycles[s.got] = c->cycle;
                s.words[s.got++] = output_payload(top, k);
                open--;
                moved = true;
            }
        }
        move_links(c);
        clock_edge(c);
        quiet = moved ? 0 : quiet + 1;
        if (quiet > patience) {
            result = 1;
            break;
        }
    }
    for (int k = 0; k < kInputs; k++) {
        moved_in[k] = sources[k].sent;
        set_input(top, k, 0, 0);
    }
    for (int k = 0; k < kOutputs; k++) {
        moved_out[k] = sinks[k].got;
        set_ready(top, k, 0);
    }
    top->eval();
    return result;
}

// Let `cycles` pass in which no input is offered and no output taken; links go on, without stalls.
void dyad_wait(void* handle, uint64_t cycles) {
    Context* c = static_cast<Context*>(handle);
    const uint32_t none[2 * kLinks + 1] = {};
    Random random(0);
    for (uint64_t i = 0; i < cycles; i++) {
        drive_links(c, random, none, 0);
        c->top->eval();
        move_links(c);
        clock_edge(c);
    }
    c->top->eval();
}

}  // extern "C"
