"""Services that run jobs, behind one protocol (``base``): IBM Quantum (``ibm``) and snapshots (``local``)."""
