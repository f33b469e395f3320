// Runs a design in Icarus through whole transactions, as harness.cpp does in Verilator: to the cycle, and with the
// same stalls. Words come from standard input, a block of each stream whenever it needs one; answers leave on standard
// output, a line each.
//
// The build puts in front of this file the numbers `INPUTS, `OUTPUTS, `LINKS, `STATUSES and the module `streams`: the
// design, its ports gathered in vectors, stream k in bits 64 k + 63 to 64 k. Link k leads from output OUTPUTS + k to
// input INPUTS + k: a queue in this file.
//
// Commands are hexadecimal numbers between blanks:
//   1 SEED PATIENCE COUNT.. EXPECTED.. STALLS..  move words of each input and each output; stalls are rules as in
//                                                harness.cpp, in its order
//   2 CYCLES                                     wait
//   3                                            look at the status ports
// Lines:
//   need K               wants the next words of input K: as many as there are, at most BLOCK
//   word K WORD CYCLE    came from output K in that cycle
//   done CYCLE TAKEN..   end of a command 1 or 2; of a 1 with the words that each input has taken
//   status WORD..
//   alive                now and then
//   unknown CYCLE READY VALID
//                        some of these bits of inputs and outputs is X, which is the end
module harness;
  localparam IN = `INPUTS + `LINKS, OUT = `OUTPUTS + `LINKS;
  localparam STDIN = 32'h8000_0000, STDOUT = 32'h8000_0001;
  localparam BLOCK = 1024;   // words; a pipe holds more
  localparam DEPTH = 16384;  // tokens that a link holds
  localparam ALIVE = 64;     // cycles

  reg clk = 0, rst = 1;
  reg [IN-1:0] in_valid = 0;
  reg [64*IN-1:0] in_payload;
  wire [IN-1:0] in_ready;
  reg [OUT-1:0] out_ready = 0;
  wire [OUT-1:0] out_valid;
  wire [64*OUT-1:0] out_payload;
  wire [64*`STATUSES-1:0] status;
  streams streams(clk, rst, in_valid, in_payload, in_ready, out_ready, out_valid, out_payload, status);

  reg [63:0] cycle = 0;
  reg [IN-1:0] offered = 0;
  integer k;

  // -- numbers from the host

  reg [63:0] number;

  task read; begin
    if ($fscanf(STDIN, "%h", number) != 1) $finish(0);  // the host is gone
  end endtask

  // -- stalls: xorshift64*, a function of the seed alone

  reg [63:0] state, product;
  reg [31:0] stalls [0:`INPUTS+`OUTPUTS+2*`LINKS];
  reg stalled;
  reg [63:0] passed;  // cycles of this run

  task roll(input [31:0] rule); begin
    stalled = rule > 256 && passed < rule - 256;
    if (rule != 0 && rule <= 256) begin
      state = state ^ (state >> 12);
      state = state ^ (state << 25);
      state = state ^ (state >> 27);
      product = state * 64'h2545F4914F6CDD1D;
      stalled = product[63:56] < rule;
    end
  end endtask

  // -- outer streams

  reg [63:0] words [0:`INPUTS*BLOCK-1];
  integer held [0:`INPUTS-1], position [0:`INPUTS-1];  // of the block at hand
  reg [63:0] left [0:`INPUTS-1], taken [0:`INPUTS-1], missing [0:`OUTPUTS-1];
  reg [63:0] open;
  reg moved;

  task fetch;
    integer i;
    begin
      $fwrite(STDOUT, "need %0h\n", k);
      $fflush(STDOUT);
      held[k] = left[k] < BLOCK ? left[k] : BLOCK;
      position[k] = 0;
      for (i = 0; i < held[k]; i = i + 1) begin
        read;
        words[k * BLOCK + i] = number;
      end
    end
  endtask

  // A word that is offered stays until it is taken.
  task drive; begin
    for (k = 0; k < `INPUTS; k = k + 1)
      if (!offered[k] && left[k] != 0) begin
        roll(stalls[k]);
        if (!stalled) begin
          if (held[k] == 0) fetch;
          offered[k] = 1;
        end
      end
    for (k = 0; k < `OUTPUTS; k = k + 1) begin
      stalled = 1;
      if (missing[k] != 0) roll(stalls[`INPUTS + k]);
      out_ready[k] = !stalled;
    end
  end endtask

  // What moves with this edge.
  task move; begin
    moved = 0;
    for (k = 0; k < `INPUTS; k = k + 1)
      if (in_valid[k] && in_ready[k]) begin
        offered[k] = 0;
        held[k] = held[k] - 1;
        position[k] = position[k] + 1;
        left[k] = left[k] - 1;
        taken[k] = taken[k] + 1;
        open = open - 1;
        moved = 1;
      end
    for (k = 0; k < `OUTPUTS; k = k + 1)
      if (out_ready[k] && out_valid[k]) begin
        $fwrite(STDOUT, "word %0h %0h %0h\n", k, out_payload[64 * k +: 64], cycle);
        missing[k] = missing[k] - 1;
        open = open - 1;
        moved = 1;
      end
  end endtask

  // -- links

  reg [63:0] tokens [0:`LINKS*DEPTH];
  integer first [0:`LINKS], count [0:`LINKS];

  task drive_links(input stalling); begin
    for (k = 0; k < `LINKS; k = k + 1) begin
      if (!offered[`INPUTS + k] && count[k] != 0) begin
        roll(stalling ? stalls[`INPUTS + `OUTPUTS + 2 * k] : 0);
        offered[`INPUTS + k] = !stalled;
      end
      roll(stalling ? stalls[`INPUTS + `OUTPUTS + 2 * k + 1] : 0);
      out_ready[`OUTPUTS + k] = !stalled && count[k] != DEPTH;
    end
  end endtask

  task move_links; begin
    for (k = 0; k < `LINKS; k = k + 1) begin
      if (in_valid[`INPUTS + k] && in_ready[`INPUTS + k]) begin
        offered[`INPUTS + k] = 0;
        first[k] = (first[k] + 1) % DEPTH;
        count[k] = count[k] - 1;
      end
      if (out_ready[`OUTPUTS + k] && out_valid[`OUTPUTS + k]) begin
        tokens[k * DEPTH + (first[k] + count[k]) % DEPTH] = out_payload[64 * (`OUTPUTS + k) +: 64];
        count[k] = count[k] + 1;
      end
    end
  end endtask

  // -- cycles

  // A stream that offers nothing carries X, so that a design which looks at it nevertheless is found out.
  task show; begin
    for (k = 0; k < `INPUTS; k = k + 1)
      in_payload[64 * k +: 64] = offered[k] ? words[k * BLOCK + position[k]] : 64'bx;
    for (k = 0; k < `LINKS; k = k + 1)
      in_payload[64 * (`INPUTS + k) +: 64] = offered[`INPUTS + k] ? tokens[k * DEPTH + first[k]] : 64'bx;
    in_valid = offered;
    #1;
    if ((^out_valid ^ ^(in_valid & in_ready)) === 1'bx) begin
      $fwrite(STDOUT, "unknown %0h %b %b\n", cycle, in_valid & in_ready, out_valid);
      $finish(0);
    end
  end endtask

  task clock_edge; begin
    clk = 1;
    #1 clk = 0;
    cycle = cycle + 1;
    if (cycle % ALIVE == 0) begin
      $fwrite(STDOUT, "alive\n");
      $fflush(STDOUT);
    end
  end endtask

  // -- commands

  reg [63:0] quiet, patience, cycles;
  integer command;

  task run; begin
    read;
    state = number * 64'h9E3779B97F4A7C15 + 64'h632BE59BD9B4E019;
    read;
    patience = number;
    open = 0;
    for (k = 0; k < `INPUTS; k = k + 1) begin
      read;
      left[k] = number;
      open = open + number;
      taken[k] = 0;
      held[k] = 0;
    end
    for (k = 0; k < `OUTPUTS; k = k + 1) begin
      read;
      missing[k] = number;
      open = open + number;
    end
    for (k = 0; k < `INPUTS + `OUTPUTS + 2 * `LINKS; k = k + 1) begin
      read;
      stalls[k] = number;
    end
    quiet = 0;
    passed = 0;
    while (open != 0 && quiet <= patience) begin
      drive;
      drive_links(1);
      show;
      move;
      move_links;
      clock_edge;
      quiet = moved ? 0 : quiet + 1;
      passed = passed + 1;
    end
    for (k = 0; k < `INPUTS; k = k + 1) offered[k] = 0;
    for (k = 0; k < `OUTPUTS; k = k + 1) out_ready[k] = 0;
    show;
    $fwrite(STDOUT, "done %0h", cycle);
    for (k = 0; k < `INPUTS; k = k + 1) $fwrite(STDOUT, " %0h", taken[k]);
    $fwrite(STDOUT, "\n");
  end endtask

  // Links go on, without stalls.
  task let_pass; begin
    read;
    for (cycles = number; cycles != 0; cycles = cycles - 1) begin
      drive_links(0);
      show;
      move_links;
      clock_edge;
    end
    show;
    $fwrite(STDOUT, "done %0h\n", cycle);
  end endtask

  task look; begin
    $fwrite(STDOUT, "status");
    for (k = 0; k < `STATUSES; k = k + 1) $fwrite(STDOUT, " %0h", status[64 * k +: 64]);
    $fwrite(STDOUT, "\n");
  end endtask

  initial begin
    for (k = 0; k < `LINKS; k = k + 1) begin
      first[k] = 0;
      count[k] = 0;
    end
    #1 clk = 1;  // one cycle of reset is enough
    #1 clk = 0;
    rst = 0;
    #1;
    while ($fscanf(STDIN, "%h", command) == 1) begin
      case (command)
        1: run;
        2: let_pass;
        3: look;
      endcase
      $fflush(STDOUT);
    end
    $finish(0);
  end
endmodule
