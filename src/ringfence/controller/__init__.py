"""The controller: holds the estate, compiles what each host must enforce, and watches that it is."""
