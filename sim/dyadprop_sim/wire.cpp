// The wire of a chip: bytes in, so many cycles, bytes out, one call. Behind harness.cpp, in designs whose first input and output
// streams carry bytes (`kPins` false), or whose plain ports are a UART's pins (`kPins` true; the build gives set_rx and get_tx). Times
// are in 1/65536 of a clock cycle, so a bit period is what a host's clock makes of it and no multiple of the chip's.

namespace {

constexpr int kFraction = 16;

struct Wire {
    Context* c;
    uint64_t quiet = 0;   // cycles since a byte or a bit moved
    uint64_t period = 0;  // of a bit; 0 where bytes move as fast as they are taken
    // bytes
    uint64_t next_in = 0, next_out = 0;
    // bits, to the chip: the byte on the line began at `start`
    bool sending = false;
    uint8_t sent = 0;
    uint64_t start = 0;
    // bits, from the chip: `bit` is sampled next, at `sample`; -1: waiting for a start bit, 9: for the line to rise again
    int bit = -1;
    uint64_t sample = 0;
    uint8_t got = 0;
    uint64_t framing_errors = 0;
    explicit Wire(Context* context) : c(context) {}
    uint64_t now() const { return c->cycle << kFraction; }
};

// The level that the host drives now; takes the next byte when the last bit of the one before has ended.
bool drive_line(Wire* w, const uint8_t* in, uint64_t count, uint64_t& taken) {
    const uint64_t now = w->now();
    if (w->sending && now >= w->start + 10 * w->period) {
        w->sending = false;
        w->start += 10 * w->period;
    }
    if (!w->sending && taken < count) {
        // Back to back, if the byte was there in time.
        if (w->start + (uint64_t(1) << kFraction) <= now) w->start = now;
        w->sent = in[taken++];
        w->sending = true;
    }
    if (!w->sending || now < w->start) return true;
    const uint64_t k = (now - w->start) / w->period;
    return k == 0 ? false : k <= 8 ? (w->sent >> (k - 1)) & 1 : true;
}

// Look at the chip's line; true when a byte has come.
bool sample_line(Wire* w, bool level) {
    const uint64_t now = w->now();
    if (w->bit < 0) {
        if (!level) {
            w->bit = 0;
            w->got = 0;
            w->sample = now + w->period + w->period / 2;
        }
        return false;
    }
    if (w->bit == 9) {
        if (level) w->bit = -1;
        return false;
    }
    if (now < w->sample) return false;
    if (w->bit < 8) {
        w->got |= uint8_t(level) << w->bit;
        w->bit++;
        w->sample += w->period;
        return false;
    }
    w->bit = level ? -1 : 9;
    if (!level) w->framing_errors++;
    return level;
}

}  // namespace

extern "C" {

void* dyad_wire(void* handle) { return new Wire(static_cast<Context*>(handle)); }

void dyad_wire_free(void* wire) { delete static_cast<Wire*>(wire); }

void dyad_wire_period(void* wire, uint64_t period) { static_cast<Wire*>(wire)->period = period; }

uint64_t dyad_wire_framing_errors(void* wire) { return static_cast<Wire*>(wire)->framing_errors; }

// Run until `cycles` have passed (returns 0), `room` bytes have come (1), bytes have come and none more for `pause` cycles (2), or
// nothing at all has moved for `patience` cycles, those of earlier calls included (3).
int dyad_wire_run(void* wire, const uint8_t* in, uint64_t count, uint64_t* taken, uint8_t* out, uint64_t room, uint64_t* given,
                  uint64_t cycles, uint64_t pause, uint64_t patience) {
    Wire* w = static_cast<Wire*>(wire);
    Context* c = w->c;
    Top* top = c->top;
    uint64_t since = 0;
    int result = 0;
    *taken = *given = 0;
    for (uint64_t i = 0; i < cycles; i++) {
        bool moved = false;
        if (kPins) {
            set_rx(top, drive_line(w, in, count, *taken));
            top->eval();
            const bool came = sample_line(w, get_tx(top));
            if (came) {
                out[(*given)++] = w->got;
                since = 0;
            }
            moved = came || w->sending || w->bit >= 0;
        } else {
            const bool offered = *taken < count && w->now() >= w->next_in;
            const bool ready = w->now() >= w->next_out;
            set_input(top, 0, offered, offered ? in[*taken] : 0);
            set_ready(top, 0, ready);
            top->eval();
            if (offered && input_ready(top, 0)) {
                (*taken)++;
                // A byte that was late does not make the next one early.
                w->next_in = (w->next_in + (uint64_t(1) << kFraction) <= w->now() ? w->now() : w->next_in) + 10 * w->period;
                moved = true;
            }
            if (ready && output_valid(top, 0)) {
                out[(*given)++] = uint8_t(output_payload(top, 0));
                w->next_out = (w->next_out + (uint64_t(1) << kFraction) <= w->now() ? w->now() : w->next_out) + 10 * w->period;
                moved = true;
                since = 0;
            }
        }
        clock_edge(c);
        w->quiet = moved ? 0 : w->quiet + 1;
        since++;
        if (*given == room) {
            result = 1;
            break;
        }
        if (*given && since > pause) {
            result = 2;
            break;
        }
        if (w->quiet > patience && *taken == count) {
            result = 3;
            break;
        }
    }
    return result;
}

}  // extern "C"
