// qkd.name: hardware
// qkd.inputs: x0 x1
// qkd.weights: w0 w1 w2 w3 w4 w5
// qkd.observables: Z3 ; Z4
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
qubit[5] q;
sx q[3];
rz(pi + x0) q[3];
sx q[3];
rz(3*pi) q[3];
rz(w0) q[3];
sx q[3];
rz(pi + w2) q[3];
sx q[3];
rz(pi/4) q[3];
sx q[3];
rz(pi/2) q[3];
sx q[4];
rz(pi + x1) q[4];
sx q[4];
rz(3*pi) q[4];
rz(w1) q[4];
sx q[4];
rz(pi + w3) q[4];
sx q[4];
cx q[4], q[3];
rz(pi/2) q[3];
sx q[3];
rz(-pi/4) q[3];
sx q[3];
rz(pi + w4) q[3];
sx q[3];
rz(3*pi) q[3];
rz(-pi) q[4];
sx q[4];
rz(pi + w5) q[4];
sx q[4];
rz(3*pi) q[4];
