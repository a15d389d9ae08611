/* Batch decisions over rule bitmaps: for each row the responsible rule of each action at one end.
 *
 * A connection (s, d, a) matches rule r when bit r is set in source[s], destination[d] and service[a], and when the scopes let the
 * rule speak at this end. Bits are ranked by rule name, so the first set bit is the rule to name. The aggregated bit vector (one summary
 * bit a 64-rule word; Baboescu and Varghese, SIGCOMM 2001) skips empty words.
 *
 * Buffers only, no numpy headers: every array comes in as a C-contiguous buffer and its length is checked. The numpy path in
 * kernel.py computes the same and is tested against this one.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

static int view(PyObject *object, Py_buffer *buffer, Py_ssize_t bytes, int writable) {
  if (PyObject_GetBuffer(object, buffer, writable ? PyBUF_CONTIG : PyBUF_CONTIG_RO) < 0) return -1;
  if (buffer->len < bytes) {
    PyBuffer_Release(buffer);
    PyErr_SetString(PyExc_ValueError, "buffer is shorter than its shape");
    return -1;
  }
  return 0;
}

/* decide(source, destination, scope, service, source_summary, destination_summary, service_summary, forbid, allow, allow_if, deny,
 *        s, d, a, believes, out, rows, classes, atoms, width, is_destination)
 *
 * allow: allows that hold; allow_if: those that hold only where `believes` is set. out: int32[rows][3] = least forbid, allow, deny
 * or -1. Once a forbid is found the row is settled. */
enum { SOURCE, DESTINATION, SCOPE, SERVICE, SOURCE_SUM, DESTINATION_SUM, SERVICE_SUM, FORBID, ALLOW, ALLOW_IF, DENY, S, D, A, BELIEVES, OUT, BUFFERS };

static void decide_rows(void **p, Py_ssize_t rows, Py_ssize_t width, int is_destination) {
  const uint64_t *source = p[SOURCE], *destination = p[DESTINATION], *scope = p[SCOPE], *service = p[SERVICE];
  const uint64_t *source_sum = p[SOURCE_SUM], *destination_sum = p[DESTINATION_SUM], *service_sum = p[SERVICE_SUM];
  const uint64_t *forbid = p[FORBID], *allow = p[ALLOW], *allow_if = p[ALLOW_IF], *deny = p[DENY];
  const int32_t *s = p[S], *d = p[D], *a = p[A];
  const uint8_t *believes = p[BELIEVES];
  int32_t *out = p[OUT];
  Py_ssize_t summary_width = (width + 63) >> 6;
  for (Py_ssize_t q = 0; q < rows; q++) {
    const uint64_t *S_ = source + s[q] * width, *D_ = destination + d[q] * width, *A_ = service + a[q] * width;
    const uint64_t *SS = source_sum + s[q] * summary_width, *DS = destination_sum + d[q] * summary_width,
                   *AS = service_sum + a[q] * summary_width;
    const uint64_t *scope_s = scope + s[q] * width, *scope_d = scope + d[q] * width;
    int32_t first_forbid = -1, first_allow = -1, first_deny = -1;
    for (Py_ssize_t v = 0; v < summary_width && first_forbid < 0; v++) {
      uint64_t live = SS[v] & DS[v] & AS[v];
      while (live) {
        Py_ssize_t w = (v << 6) + __builtin_ctzll(live);
        live &= live - 1;
        uint64_t matching = S_[w] & D_[w] & A_[w];
        if (!matching) continue;
        uint64_t either = scope_s[w] | scope_d[w];
        uint64_t speaks = is_destination ? scope_d[w] : either;
        uint64_t held = allow[w] | (believes[q] ? allow_if[w] : 0);
        uint64_t f = matching & either & forbid[w], l = matching & speaks & held, n = matching & either & deny[w];
        if (f) {
          first_forbid = (int32_t)((w << 6) + __builtin_ctzll(f));
          break;
        }
        if (l && first_allow < 0) first_allow = (int32_t)((w << 6) + __builtin_ctzll(l));
        if (n && first_deny < 0) first_deny = (int32_t)((w << 6) + __builtin_ctzll(n));
      }
    }
    out[q * 3] = first_forbid;
    out[q * 3 + 1] = first_allow;
    out[q * 3 + 2] = first_deny;
  }
}

static int in_range(const int32_t *ids, Py_ssize_t rows, Py_ssize_t limit) {
  for (Py_ssize_t q = 0; q < rows; q++)
    if (ids[q] < 0 || ids[q] >= limit) return 0;
  return 1;
}

static PyObject *decide(PyObject *self, PyObject *args) {
  PyObject *o[BUFFERS];
  Py_ssize_t rows, classes, atoms, width;
  int is_destination;
  if (!PyArg_ParseTuple(args, "OOOOOOOOOOOOOOOOnnnnp", &o[0], &o[1], &o[2], &o[3], &o[4], &o[5], &o[6], &o[7], &o[8], &o[9], &o[10],
                        &o[11], &o[12], &o[13], &o[14], &o[15], &rows, &classes, &atoms, &width, &is_destination))
    return NULL;
  if (rows < 0 || classes < 0 || atoms < 0 || width < 1) return PyErr_Format(PyExc_ValueError, "negative shape");
  Py_ssize_t sum = ((width + 63) >> 6) * 8, row = width * 8;
  Py_ssize_t bytes[BUFFERS] = {classes * row, classes * row, classes * row, atoms * row, classes * sum, classes * sum,
                               atoms * sum,   row,           row,           row,         row,           rows * 4,
                               rows * 4,      rows * 4,      rows,          rows * 12};
  Py_buffer buffers[BUFFERS];
  void *p[BUFFERS];
  int held = 0;
  PyObject *result = NULL;
  for (; held < BUFFERS; held++) {
    if (view(o[held], &buffers[held], bytes[held], held == OUT) < 0) goto done;
    p[held] = buffers[held].buf;
  }
  if (!in_range(p[S], rows, classes) || !in_range(p[D], rows, classes) || !in_range(p[A], rows, atoms)) {
    PyErr_SetString(PyExc_IndexError, "a row names a class or an atom that does not exist");
    goto done;
  }
  Py_BEGIN_ALLOW_THREADS;
  decide_rows(p, rows, width, is_destination);
  Py_END_ALLOW_THREADS;
  result = Py_NewRef(Py_None);
done:
  while (held > 0) PyBuffer_Release(&buffers[--held]);
  return result;
}

static PyMethodDef methods[] = {
    {"decide", decide, METH_VARARGS, "The responsible forbid, allow and deny of each row at one end."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernel", "Batch decisions over rule bitmaps.", -1, methods};
PyMODINIT_FUNC PyInit__kernel(void) { return PyModule_Create(&module); }
