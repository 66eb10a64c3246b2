"""Where jobs run: IBM Quantum (``ibm``) or a snapshot on this machine (``local``), behind one protocol (``base``)."""
