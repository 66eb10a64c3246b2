// qkd.name: hardware
// qkd.inputs: x0 x1
// qkd.weights: w0 w1 w2 w3 w4 w5
// qkd.observables: Z0 ; Z1
OPENQASM 3.0;
include "stdgates.inc";
input float[64] w0;
input float[64] w1;
input float[64] w2;
input float[64] w3;
input float[64] w4;
input float[64] w5;
input float[64] x0;
input float[64] x1;
qubit[2] q;
ry(x0) q[0];
ry(x1) q[1];
rz(w0) q[0];
rz(w1) q[1];
ry(w2) q[0];
ry(w3) q[1];
cz q[0], q[1];
ry(w4) q[0];
ry(w5) q[1];
