"""The claims of docs/theorem.md, each with its measurement: `dyadprop relax --figures DIR` runs them all."""
