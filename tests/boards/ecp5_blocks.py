"""Models of ECP5's hard blocks for simulation, as far as the gateware uses them: yosys has none."""


def _list(*names: str) -> str:
    return ", ".join(names)


def _bits(name: str, count: int) -> list[str]:
    return [f"{name}{bit}" for bit in range(count)]


def _vector(name: str, count: int) -> str:
    return "{" + ", ".join(reversed(_bits(name, count))) + "}"


def block_models() -> str:
    """Give Verilog of MULT18X18D (up to three ranks of registers, with CE0 and RST0) and DP16KD (9, 18 and 36 bits)."""
    inputs = [*_bits("A", 18), *_bits("B", 18), *_bits("C", 18)]
    controls = [f"{name}{k}" for name in ("CLK", "CE", "RST") for k in range(4)]
    ranks = ["INPUTA", "INPUTB", "PIPELINE", "OUTPUT"]
    parameters = [f'parameter REG_{rank}_{kind} = "NONE"' for rank in ranks for kind in ("CLK", "CE", "RST")]
    multiplier = f"""
module MULT18X18D #({_list(*parameters)}) (
    input {_list(*inputs, *controls, "SIGNEDA", "SIGNEDB", "SOURCEA", "SOURCEB")},
    output {_list(*_bits("P", 36))});
    reg signed [17:0] a_q, b_q;
    reg signed [35:0] middle_q, out_q;
    wire signed [17:0] a = REG_INPUTA_CLK == "CLK0" ? a_q : {_vector("A", 18)};
    wire signed [17:0] b = REG_INPUTB_CLK == "CLK0" ? b_q : {_vector("B", 18)};
    // Another source is the neighbour's output, which nothing here has.
    wire signed [18:0] a_all = SOURCEA ? 19'bx : {{SIGNEDA & a[17], a}};
    wire signed [18:0] b_all = SOURCEB ? 19'bx : {{SIGNEDB & b[17], b}};
    wire signed [35:0] product = a_all * b_all;
    wire signed [35:0] middle = REG_PIPELINE_CLK == "CLK0" ? middle_q : product;
    assign {_vector("P", 36)} = REG_OUTPUT_CLK == "CLK0" ? out_q : middle;
    always @(posedge CLK0) if (RST0) begin
        a_q <= 0;
        b_q <= 0;
        middle_q <= 0;
        out_q <= 0;
    end else if (CE0) begin
        a_q <= {_vector("A", 18)};
        b_q <= {_vector("B", 18)};
        middle_q <= product;
        out_q <= middle;
    end
endmodule
"""
    ports = [
        name
        for side in "AB"
        for name in (
            *_bits(f"AD{side}", 14),
            *_bits(f"DI{side}", 18),
            *_bits(f"CS{side}", 3),
            *(f"{control}{side}" for control in ("CE", "OCE", "CLK", "WE", "RST")),
        )
    ]
    init = [f"parameter [319:0] INITVAL_{k:02X} = 320'b0" for k in range(64)]
    modes = [
        *(f"parameter {name}_{side} = {value}" for side in "AB" for name, value in (
            ("DATA_WIDTH", "18"), ("REGMODE", '"NOREG"'), ("WRITEMODE", '"NORMAL"'), ("CSDECODE", '"0b000"'),
        )),
        'parameter CLKAMUX = "CLKA"', 'parameter CLKBMUX = "CLKB"', 'parameter GSR = "DISABLED"',
        'parameter RESETMODE = "SYNC"', 'parameter ASYNC_RESET_RELEASE = "SYNC"',
    ]  # fmt: skip
    fill = "\n".join(
        f"        for (k = 0; k < 16; k = k + 1) words[{16 * n} + k] = INITVAL_{n:02X}[20 * k +: 18];"
        for n in range(64)
    )
    memory = f"""
module DP16KD #({_list(*modes, *init)}) (
    input {_list(*ports)},
    output {_list(*_bits("DOA", 18), *_bits("DOB", 18))});
    reg [17:0] words [0:1023];
    integer k;
    initial begin
{fill}
    end
    wire [13:0] ada = {_vector("ADA", 14)}, adb = {_vector("ADB", 14)};
    wire [17:0] dia = {_vector("DIA", 18)}, dib = {_vector("DIB", 18)};
    reg [17:0] a, b, a_q, b_q;
    generate if (DATA_WIDTH_B == 36) begin
        // Port A writes, port B reads; all four bytes or none.
        always @(posedge CLKA) if (CEA & WEA & ada[0]) begin
            words[{{ada[13:5], 1'b0}}] <= dia;
            words[{{ada[13:5], 1'b1}}] <= dib;
        end
        always @(posedge CLKB) if (CEB) begin
            a <= words[{{adb[13:5], 1'b0}}];
            b <= words[{{adb[13:5], 1'b1}}];
        end
    end else begin
        always @(posedge CLKA) if (CEA) begin
            if (DATA_WIDTH_A == 9) begin
                if (WEA) words[ada[13:4]][9 * ada[3] +: 9] <= dia[8:0];
                else a <= words[ada[13:4]][9 * ada[3] +: 9];
            end else begin
                if (WEA & ada[0]) words[ada[13:4]] <= dia;
                else a <= words[ada[13:4]];
            end
        end
        always @(posedge CLKB) if (CEB) begin
            if (DATA_WIDTH_B == 9) begin
                if (WEB) words[adb[13:4]][9 * adb[3] +: 9] <= dib[8:0];
                else b <= words[adb[13:4]][9 * adb[3] +: 9];
            end else begin
                if (WEB & adb[0]) words[adb[13:4]] <= dib;
                else b <= words[adb[13:4]];
            end
        end
    end endgenerate
    wire clock_a = DATA_WIDTH_B == 36 ? CLKB : CLKA;
    always @(posedge clock_a) if (OCEA) a_q <= a;
    always @(posedge CLKB) if (OCEB) b_q <= b;
    assign {_vector("DOA", 18)} = REGMODE_A == "OUTREG" ? a_q : a;
    assign {_vector("DOB", 18)} = REGMODE_B == "OUTREG" ? b_q : b;
endmodule
"""
    return multiplier + memory
