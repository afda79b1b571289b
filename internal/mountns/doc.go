// Package mountns lets a test have file systems of its own on Linux: small ones
// that fill up, and ones that cannot be written to. Modes and quotas are no
// substitute, because root, as whom tests often run, does not heed them.
package mountns
