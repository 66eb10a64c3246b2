// qkd.name: hardware
// qkd.inputs: x0 x1 x2
// qkd.weights: w0 w1 w2 w3 w4 w5 w6 w7 w8
// qkd.observables: Z0 ; Z1 ; Z2
OPENQASM 3.0;
include "stdgates.inc";
input float[64] w0;
input float[64] w1;
input float[64] w2;
input float[64] w3;
input float[64] w4;
input float[64] w5;
input float[64] w6;
input float[64] w7;
input float[64] w8;
input float[64] x0;
input float[64] x1;
input float[64] x2;
qubit[3] q;
ry(x0) q[0];
ry(x1) q[1];
ry(x2) q[2];
rz(w0) q[0];
rz(w1) q[1];
rz(w2) q[2];
ry(w3) q[0];
ry(w4) q[1];
ry(w5) q[2];
cz q[0], q[1];
cz q[1], q[2];
ry(w6) q[0];
ry(w7) q[1];
ry(w8) q[2];
