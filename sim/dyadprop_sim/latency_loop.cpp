// One step of stochastic gradient descent at batch 1, float32, tanh layers and an identity last one: what a careful C++ programmer
// would write, for comparison. Weights row by row, each row's bias last; `sizes` are n_0 .. n_L.

#include <cmath>
#include <vector>

extern "C" void latency_steps(const int* sizes, int layers, float* const* weights, const float* x, const float* y, float rate, int steps) {
    std::vector<std::vector<float>> act(layers + 1), sens(layers + 1);
    for (int l = 0; l <= layers; l++) {
        act[l].resize(sizes[l]);
        sens[l].resize(sizes[l]);
    }
    for (int step = 0; step < steps; step++) {
        for (int j = 0; j < sizes[0]; j++) act[0][j] = x[j];
        for (int l = 1; l <= layers; l++) {
            const int n = sizes[l - 1];
            for (int i = 0; i < sizes[l]; i++) {
                const float* w = weights[l - 1] + i * (n + 1);
                float sum = w[n];
                for (int j = 0; j < n; j++) sum += w[j] * act[l - 1][j];
                act[l][i] = l < layers ? std::tanh(sum) : sum;
            }
        }
        for (int i = 0; i < sizes[layers]; i++) sens[layers][i] = act[layers][i] - y[i];
        for (int l = layers; l >= 1; l--) {
            const int n = sizes[l - 1];
            if (l > 1)
                for (int j = 0; j < n; j++) sens[l - 1][j] = 0.0f;
            for (int i = 0; i < sizes[l]; i++) {
                float* w = weights[l - 1] + i * (n + 1);
                const float delta = l < layers ? (1.0f - act[l][i] * act[l][i]) * sens[l][i] : sens[l][i];
                if (l > 1)
                    for (int j = 0; j < n; j++) sens[l - 1][j] += w[j] * delta;
                for (int j = 0; j < n; j++) w[j] -= rate * delta * act[l - 1][j];
                w[n] -= rate * delta;
            }
        }
    }
}
