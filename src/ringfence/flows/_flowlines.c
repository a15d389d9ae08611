/* Text lines to columns: the first half of `_flowcore.c`, which includes it. Not a translation unit of its own.
 *
 * INVARIANT: no read leaves the buffer handed in: every token function gets its end and never looks at *end.
 * The checks, their order and their reasons are those of `flows/tokens.py` and `flows/settle.py`; the tests compare the two.
 */

/* ---- text lines to columns --------------------------------------------------------------------------------------------- */

enum op { SKIP, SRC, DST, PKT_SRC, PKT_DST, SPORT, DPORT, PROTO, PACKETS, BYTES, START, END, ACTION, STATUS, FLAGS, REPORTER,
          SCOPE, TS, DURATION, PROTO_NAME, IP_PROTO, STATE, HISTORY, REV_PACKETS, REV_BYTES, OPS };
enum reason { KEPT, COLUMNS, ADDRESS, NUMBER, RANGE, WORD, MISSING, TIME, TOO_LONG, PROTOCOL, FAMILY, NODATA, SKIPDATA };
enum { C_START, C_END, C_SRC_HI, C_SRC_LO, C_DST_HI, C_DST_LO, C_SPORT, C_DPORT, C_PROTO, C_FLAGS, C_REPORTED, C_HINT,
       C_PACKETS, C_BYTES, C_REPORTER, C_SCOPE, C_REV_PACKETS, C_REV_BYTES, N_COLUMNS };
static const uint8_t WIDTH[N_COLUMNS] = {8, 8, 8, 8, 8, 8, 2, 2, 1, 1, 1, 1, 8, 8, 8, 8, 8, 8};

typedef struct {
    const uint8_t *ops;
    int columns, separator, is_zeek, has_status, is_quick;
    text null, header;
    Py_ssize_t null_length, header_length;
} plan;

typedef struct {
    uint64_t v[OPS], hi[OPS];
    uint32_t seen;
} fields;

#define HAS(f, op) ((f)->seen >> (op) & 1)

static int is_word(text p, text e, const char *word) {
    size_t n = strlen(word);
    return (size_t)(e - p) == n && memcmp(p, word, n) == 0;
}

static int read_number(text p, text e, uint64_t max, uint64_t *out) {
    uint64_t v = 0;
    int is_huge = 0;
    if (p == e) return NUMBER;
    for (; p < e; p++) {
        unsigned d = (unsigned)*p - '0';
        if (d > 9) return NUMBER;
        if (v > (MAX_COUNT - d) / 10) is_huge = 1;
        else v = v * 10 + d;
    }
    *out = v;
    return is_huge || v > max ? RANGE : KEPT;
}

/* Seconds with an optional fraction -> whole milliseconds, cut off. */
static int read_seconds(text p, text e, uint64_t *out) {
    text dot = memchr(p, '.', (size_t)(e - p));
    uint64_t whole = 0, ms = 0;
    int found = read_number(p, dot ? dot : e, MAX_SECONDS, &whole), digits = 0;
    if (found == NUMBER) return NUMBER;
    if (dot && dot + 1 == e) return NUMBER;
    for (text q = dot ? dot + 1 : e; q < e; q++) {
        unsigned d = (unsigned)*q - '0';
        if (d > 9) return NUMBER;
        if (digits++ < 3) ms = ms * 10 + d;
    }
    for (; digits < 3; digits++) ms *= 10;
    *out = whole * 1000 + ms;
    return found;
}

static int read_v4(text p, text e, uint64_t *out) {
    uint64_t address = 0;
    for (int octet = 0; octet < 4; octet++) {
        unsigned v = 0;
        text q = p;
        for (; q < e && q - p < 4 && (unsigned)*q - '0' < 10; q++) v = v * 10 + (*q - '0');
        if (q == p || q - p > 3 || v > 255 || (*p == '0' && q - p > 1)) return ADDRESS;
        if (octet < 3 ? (q == e || *q != '.') : q != e) return ADDRESS;
        address = address << 8 | v;
        p = q + 1;
    }
    *out = address;
    return KEPT;
}

static int hex_digit(uint8_t c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 4291 section 2.2: eight groups, one `::`, perhaps a dotted IPv4 tail. */
static int read_v6(text p, text e, uint64_t *hi, uint64_t *lo) {
    uint16_t group[8] = {0};
    int n = 0, gap = -1;
    if (e - p > 45 || e - p < 2) return ADDRESS;
    if (*p == ':' && *++p != ':') return ADDRESS;
    while (p < e) {
        if (*p == ':') {
            if (gap >= 0) return ADDRESS;
            gap = n;
            if (++p == e) break;
        }
        if (n == 8) return ADDRESS;
        text q = p;
        unsigned v = 0;
        int d;
        for (; q < e && q - p < 5 && (d = hex_digit(*q)) >= 0; q++) v = v << 4 | (unsigned)d;
        if (q < e && *q == '.') {
            uint64_t tail = 0;
            if (n > 6 || read_v4(p, e, &tail)) return ADDRESS;
            group[n++] = (uint16_t)(tail >> 16);
            group[n++] = (uint16_t)tail;
            p = e;
            break;
        }
        if (q == p || q - p > 4) return ADDRESS;
        group[n++] = (uint16_t)v;
        p = q;
        if (p == e) break;
        if (*p++ != ':' || p == e) return ADDRESS;
    }
    if (gap < 0 ? n != 8 : n > 7) return ADDRESS;
    if (gap >= 0)
        for (int i = n - 1, j = 7; i >= gap; i--, j--) {
            group[j] = group[i];
            if (i != j) group[i] = 0;
        }
    *hi = (uint64_t)group[0] << 48 | (uint64_t)group[1] << 32 | (uint64_t)group[2] << 16 | group[3];
    *lo = (uint64_t)group[4] << 48 | (uint64_t)group[5] << 32 | (uint64_t)group[6] << 16 | group[7];
    return KEPT;
}

static int read_address(text p, text e, uint64_t *hi, uint64_t *lo) {
    if (memchr(p, ':', (size_t)(e - p))) return read_v6(p, e, hi, lo);
    int found = read_v4(p, e, lo);
    *hi = 0;
    *lo |= V4_PREFIX;
    return found;
}

/* `record.opaque_id`: eight bytes at a time, zeros after the end. */
static uint64_t read_id(text p, text e) {
    uint64_t h = (uint64_t)(e - p);
    if (e - p > HASHED_CHARS) e = p + HASHED_CHARS;
    for (; p < e; p += 8) {
        uint64_t word = 0;
        if (e - p >= 8) memcpy(&word, p, 8);
        else memcpy(&word, p, (size_t)(e - p));
        h = (h ^ word) * 0x9E3779B97F4A7C15ULL;
        h ^= h >> 32;
    }
    return h;
}

static int read_word(int op, text p, text e, uint64_t *v) {
    static const struct { const char *word; uint8_t length, value; } words[][4] = {
        [ACTION] = {{"ACCEPT", 6, 1}, {"REJECT", 6, 2}},
        [STATUS] = {{"OK", 2, 0}, {"NODATA", 6, 1}, {"SKIPDATA", 8, 2}},
        [PROTO_NAME] = {{"tcp", 3, 6}, {"udp", 3, 17}, {"icmp", 4, 1}, {"unknown_transport", 17, 255}}};
    for (int i = 0; i < 4 && words[op][i].word; i++)
        if (e - p == words[op][i].length && memcmp(p, words[op][i].word, words[op][i].length) == 0) {
            *v = words[op][i].value;
            return KEPT;
        }
    return WORD;
}

/* Zeek conn_state: 1 both ends spoke, so the connection was let through; 2 the originator is a guess; 0 neither. */
static uint64_t read_state(text p, text e) {
    static const char *const spoke[] = {"SF", "S1", "S2", "S3", "RSTO", "RSTR"}, *const guess[] = {"OTH", "SHR", "RSTRH"};
    for (int i = 0; i < 6; i++)
        if (is_word(p, e, spoke[i])) return 1;
    for (int i = 0; i < 3; i++)
        if (is_word(p, e, guess[i])) return 2;
    return 0;
}

static int read_field(int op, text p, text e, fields *f) {
    uint64_t *v = &f->v[op];
    switch (op) {
    case SRC: case DST: case PKT_SRC: case PKT_DST: return read_address(p, e, &f->hi[op], v);
    case SPORT: case DPORT: return read_number(p, e, 65535, v);
    case PROTO: case IP_PROTO: case FLAGS: return read_number(p, e, 255, v);
    case PACKETS: case BYTES: case REV_PACKETS: case REV_BYTES: return read_number(p, e, MAX_COUNT, v);
    case START: case END: return read_number(p, e, MAX_SECONDS, v);
    case TS: case DURATION: return read_seconds(p, e, v);
    case ACTION: case STATUS: case PROTO_NAME: return read_word(op, p, e, v);
    case REPORTER: case SCOPE: *v = read_id(p, e); return KEPT;
    case STATE: *v = read_state(p, e); return KEPT;
    case HISTORY: *v = memchr(p, '^', (size_t)(e - p)) != NULL; return KEPT;
    }
    return KEPT;
}

static int has_columns(const plan *pl, text p, text e) {
    int separators = 0;
    for (; p < e; p++) separators += *p == pl->separator;
    return separators == pl->columns - 1;
}

/* Up to 18 digits, or a dotted address, that end where the field ends: the end, or NULL to have it read with all checks. */
static text quick_number(text p, text e, int separator, uint64_t max, uint64_t *out) {
    uint64_t v = 0;
    text q = p;
    for (unsigned d; q < e && (d = (unsigned)*q - '0') <= 9; q++) v = v * 10 + d;
    if (q == p || q - p > 18 || v > max || (q < e && *q != separator)) return NULL;
    *out = v;
    return q;
}

static text quick_v4(text p, text e, int separator, uint64_t *hi, uint64_t *lo) {
    uint64_t address = 0;
    text q = p;
    for (int octet = 0; octet < 4; octet++, q++) {
        text from = q;
        unsigned v = 0;
        for (unsigned d; q < e && q - from < 3 && (d = (unsigned)*q - '0') <= 9; q++) v = v * 10 + d;
        if (q == from || v > 255 || (*from == '0' && q - from > 1)) return NULL;
        address = address << 8 | v;
        if (octet == 3) break;
        if (q == e || *q != '.') return NULL;
    }
    if (q < e && *q != separator) return NULL;
    *hi = 0;
    *lo = V4_PREFIX | address;
    return q;
}

static text quick_field(const plan *pl, int op, text p, text e, fields *f) {
    static const uint64_t most[OPS] = {
        [SPORT] = 65535, [DPORT] = 65535, [PROTO] = 255, [IP_PROTO] = 255, [FLAGS] = 255, [START] = MAX_SECONDS,
        [END] = MAX_SECONDS, [PACKETS] = MAX_COUNT, [BYTES] = MAX_COUNT, [REV_PACKETS] = MAX_COUNT, [REV_BYTES] = MAX_COUNT};
    if (most[op]) return quick_number(p, e, pl->separator, most[op], &f->v[op]);
    return op >= SRC && op <= PKT_DST ? quick_v4(p, e, pl->separator, &f->hi[op], &f->v[op]) : NULL;
}

static int is_null(const plan *pl, text p, text q) {
    return q - p == pl->null_length && memcmp(p, pl->null, (size_t)(q - p)) == 0;
}

/* One line without its end of line -> fields; `column` is the one at fault. */
static int read_fields(const plan *pl, text p, text e, fields *f, int *column) {
    text line = p;
    f->seen = 0;
    for (int c = 0; c < pl->columns; c++) {
        int op = pl->ops[c], is_last = c == pl->columns - 1;
        int found = KEPT;
        text q = pl->is_quick ? quick_field(pl, op, p, e, f) : NULL;
        if (q) {
            f->seen |= 1u << op;
        } else {
            for (q = p; q < e && *q != pl->separator; q++) {}
            if (op != SKIP && !is_null(pl, p, q)) {
                f->seen |= 1u << op;
                found = read_field(op, p, q, f);
            }
        }
        if ((q == e) != is_last || (found && !has_columns(pl, line, e))) return COLUMNS;
        if (found) {
            *column = c;
            return found;
        }
        p = q + 1;
    }
    return KEPT;
}

typedef struct {
    uint8_t *column[N_COLUMNS];
    Py_ssize_t capacity, rows;
    uint64_t untyped;
} table;

#define CELL(t, type, c) (((type *)(t)->column[c])[(t)->rows])

static int is_ported(uint64_t protocol) {
    return protocol == 6 || protocol == 17 || protocol == 132 || protocol == 33 || protocol == 136;
}

/* Replies name the request they answer (RFC 792, RFC 4443); 1 if `type` was a reply. */
static int to_request(uint64_t protocol, uint64_t *type) {
    if (protocol == 1 && *type == 0) return *type = 8, 1;
    if (protocol == 1 && (*type == 14 || *type == 16 || *type == 18)) return *type -= 1, 1;
    if (protocol == 58 && *type == 129) return *type = 128, 1;
    return 0;
}

static int is_v4(uint64_t hi, uint64_t lo) { return hi == 0 && lo >> 32 == 0xFFFF; }

/* Fields -> one row of the table. The checks and their order are `flows/settle.py`'s. */
static int settle(const plan *pl, fields *f, table *t) {
    int src = HAS(f, PKT_SRC) ? PKT_SRC : SRC, dst = HAS(f, PKT_DST) ? PKT_DST : DST, proto_op = HAS(f, PROTO) ? PROTO : PROTO_NAME;
    uint64_t start, end, protocol, sport, dport;
    int hint = 0, reported = 0;
    if (HAS(f, STATUS) && f->v[STATUS]) return f->v[STATUS] == 1 ? NODATA : SKIPDATA;
    if (!pl->is_zeek && !pl->has_status && !HAS(f, src) && !HAS(f, dst)) return NODATA;
    if (!HAS(f, src) || !HAS(f, dst) || !HAS(f, SPORT) || !HAS(f, DPORT) || !HAS(f, proto_op)) return MISSING;
    if (!HAS(f, pl->is_zeek ? TS : START)) return MISSING;
    if (is_v4(f->hi[src], f->v[src]) != is_v4(f->hi[dst], f->v[dst])) return FAMILY;
    if (pl->is_zeek) {
        start = f->v[TS];
        end = start + (HAS(f, DURATION) ? f->v[DURATION] : 0);
        if (end > MAX_SECONDS * 1000 + 999) return RANGE;
    } else {
        start = f->v[START] * 1000;
        end = HAS(f, END) ? f->v[END] * 1000 : start;
        if (end < start) return TIME;
    }
    protocol = f->v[proto_op];
    if (proto_op == PROTO_NAME) {
        if (protocol == 255 && HAS(f, IP_PROTO)) protocol = f->v[IP_PROTO];
        else if (protocol == 255) return PROTOCOL;
        if (protocol == 1 && !is_v4(f->hi[src], f->v[src])) protocol = 58;
    }
    sport = f->v[SPORT];
    dport = f->v[DPORT];
    if (pl->is_zeek) {
        reported = HAS(f, STATE) && f->v[STATE] == 1;
        hint = !(HAS(f, STATE) && f->v[STATE] == 2) && !(HAS(f, HISTORY) && f->v[HISTORY]);
    } else {
        reported = HAS(f, ACTION) ? (int)f->v[ACTION] : 0;
    }
    if (protocol == 1 || protocol == 58) {
        if (pl->is_zeek) {
            if (sport > 255) return RANGE;
            if (to_request(protocol, &sport)) hint = -hint;
        } else {
            sport = protocol == 1 ? 8 : 128;
            t->untyped++;
        }
        dport = sport;
    } else if (!is_ported(protocol)) {
        sport = dport = 0;
    }
    CELL(t, int64_t, C_START) = (int64_t)start;
    CELL(t, int64_t, C_END) = (int64_t)end;
    CELL(t, uint64_t, C_SRC_HI) = f->hi[src];
    CELL(t, uint64_t, C_SRC_LO) = f->v[src];
    CELL(t, uint64_t, C_DST_HI) = f->hi[dst];
    CELL(t, uint64_t, C_DST_LO) = f->v[dst];
    CELL(t, uint16_t, C_SPORT) = (uint16_t)sport;
    CELL(t, uint16_t, C_DPORT) = (uint16_t)dport;
    CELL(t, uint8_t, C_PROTO) = (uint8_t)protocol;
    CELL(t, uint8_t, C_FLAGS) = HAS(f, FLAGS) ? (uint8_t)f->v[FLAGS] : 0;
    CELL(t, uint8_t, C_REPORTED) = (uint8_t)reported;
    CELL(t, int8_t, C_HINT) = (int8_t)hint;
    CELL(t, int64_t, C_PACKETS) = HAS(f, PACKETS) ? (int64_t)f->v[PACKETS] : 0;
    CELL(t, int64_t, C_BYTES) = HAS(f, BYTES) ? (int64_t)f->v[BYTES] : 0;
    CELL(t, uint64_t, C_REPORTER) = HAS(f, REPORTER) ? f->v[REPORTER] : 0;
    CELL(t, uint64_t, C_SCOPE) = HAS(f, SCOPE) ? f->v[SCOPE] : 0;
    CELL(t, int64_t, C_REV_PACKETS) = HAS(f, REV_PACKETS) ? (int64_t)f->v[REV_PACKETS] : 0;
    CELL(t, int64_t, C_REV_BYTES) = HAS(f, REV_BYTES) ? (int64_t)f->v[REV_BYTES] : 0;
    t->rows++;
    return KEPT;
}

typedef struct {
    Py_ssize_t line, offset, length;
    int reason, column;
} reject;

typedef struct {
    Py_ssize_t consumed, lines;
    uint64_t nodata, skipdata, skipped, malformed;
    int is_stopped, n_rejects, max_rejects;
    reject *rejects;
} outcome;

static int starts_with(text p, text e, const char *prefix) {
    size_t n = strlen(prefix);
    return (size_t)(e - p) >= n && memcmp(p, prefix, n) == 0;
}

/* A line that names columns ends the run: Python reads it and comes back with another plan. */
static int is_new_header(const plan *pl, text p, text e) {
    if (pl->is_zeek) return starts_with(p, e, "#fields") || starts_with(p, e, "#separator") || starts_with(p, e, "#unset_field");
    if (e - p > MAX_LINE) return 0;
    for (text q = p; e - q >= 7; q++)
        if (memcmp(q, "srcaddr", 7) == 0) return 1;
    return 0;
}

static void run_lines(const plan *pl, text base, Py_ssize_t n, int is_final, table *t, outcome *o) {
    text p = base, end = base + n;
    fields f;
    memset(&f, 0, sizeof f);
    while (p < end && t->rows < t->capacity) {
        text nl = memchr(p, '\n', (size_t)(end - p)), e = nl ? nl : end;
        int column = -1, found;
        if (!nl && !is_final) break;
        if (e > p && e[-1] == '\r') e--;
        if (e == p || (pl->header_length && e - p == pl->header_length && memcmp(p, pl->header, (size_t)(e - p)) == 0)) {
            o->skipped++;
        } else if (pl->is_zeek && *p == '#') {
            if (is_new_header(pl, p, e)) { o->is_stopped = 1; break; }
            o->skipped++;
        } else {
            found = e - p > MAX_LINE ? TOO_LONG : read_fields(pl, p, e, &f, &column);
            if (!found) found = settle(pl, &f, t);
            if (found == NODATA) o->nodata++;
            else if (found == SKIPDATA) o->skipdata++;
            else if (found) {
                if (!pl->is_zeek && is_new_header(pl, p, e)) { o->is_stopped = 1; break; }
                if (o->n_rejects < o->max_rejects)
                    o->rejects[o->n_rejects++] = (reject){o->lines, p - base, e - p, found, column};
                o->malformed++;
            }
        }
        o->lines++;
        p = nl ? nl + 1 : end;
    }
    o->consumed = p - base;
}

static PyObject *rejects_of(const outcome *o) {
    PyObject *list = PyList_New(o->n_rejects);
    for (int i = 0; list && i < o->n_rejects; i++) {
        const reject *r = &o->rejects[i];
        PyObject *item = Py_BuildValue("(nnnii)", r->line, r->offset, r->length, r->reason, r->column);
        if (!item) { Py_CLEAR(list); break; }
        PyList_SET_ITEM(list, i, item);
    }
    return list;
}

/* Buffers of the columns, each at least `rows` long (or the table's capacity is what the shortest holds). */
static int get_columns(PyObject *tuple, Py_buffer *views, const uint8_t *width, int n, int flags, Py_ssize_t *rows) {
    *rows = PY_SSIZE_T_MAX;
    for (int i = 0; i < n; i++) {
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(tuple, i), &views[i], flags) < 0) {
            while (i--) PyBuffer_Release(&views[i]);
            return -1;
        }
        if (views[i].len / width[i] < *rows) *rows = views[i].len / width[i];
        if ((uintptr_t)views[i].buf % width[i]) {
            do PyBuffer_Release(&views[i]); while (i--);
            PyErr_SetString(PyExc_ValueError, "a column is not aligned");
            return -1;
        }
    }
    return 0;
}

PyDoc_STRVAR(parse_doc,
"parse(data, is_final, separator, ops, null, header, is_zeek, columns, max_rejects)\n"
" -> (consumed, lines, rows, nodata, skipdata, skipped, malformed, untyped, is_stopped, rejects)\n\n"
"Whole lines of `data` into the writable `columns`; an unfinished last line is left unless `is_final`.");

static PyObject *parse(PyObject *Py_UNUSED(self), PyObject *args) {
    Py_buffer data, ops, null, header, views[N_COLUMNS];
    PyObject *columns, *result = NULL, *rejects = NULL;
    int is_final, separator, is_zeek, max_rejects;
    table t = {0};
    outcome o = {0};
    if (!PyArg_ParseTuple(args, "y*piy*y*y*pO!i", &data, &is_final, &separator, &ops, &null, &header, &is_zeek, &PyTuple_Type,
                          &columns, &max_rejects))
        return NULL;
    int is_sane = PyTuple_GET_SIZE(columns) == N_COLUMNS && ops.len > 0 && ops.len < 1024 && max_rejects >= 0 && max_rejects < 1024;
    for (Py_ssize_t i = 0; i < ops.len; i++) is_sane &= ((uint8_t *)ops.buf)[i] < OPS;
    if (!is_sane) PyErr_SetString(PyExc_ValueError, "not a column plan");
    if (is_sane && get_columns(columns, views, WIDTH, N_COLUMNS, PyBUF_WRITABLE, &t.capacity) == 0) {
        plan pl = {ops.buf, (int)ops.len, separator, is_zeek, 0, 0, null.buf, header.buf, null.len, header.len};
        pl.is_quick = null.len == 0 || (unsigned)*(text)null.buf - '0' > 9; /* else a number might mean null */
        pl.has_status = memchr(ops.buf, STATUS, (size_t)ops.len) != NULL;
        for (int i = 0; i < N_COLUMNS; i++) t.column[i] = views[i].buf;
        o.max_rejects = max_rejects;
        o.rejects = PyMem_Calloc((size_t)max_rejects + 1, sizeof *o.rejects);
        if (o.rejects) {
            Py_BEGIN_ALLOW_THREADS
            run_lines(&pl, data.buf, data.len, is_final, &t, &o);
            Py_END_ALLOW_THREADS
            rejects = rejects_of(&o);
        } else PyErr_NoMemory();
        for (int i = 0; i < N_COLUMNS; i++) PyBuffer_Release(&views[i]);
        if (rejects)
            result = Py_BuildValue("(nnnKKKKKiN)", o.consumed, o.lines, t.rows, (unsigned long long)o.nodata,
                                   (unsigned long long)o.skipdata, (unsigned long long)o.skipped, (unsigned long long)o.malformed,
                                   (unsigned long long)t.untyped, o.is_stopped, rejects);
        PyMem_Free(o.rejects);
    }
    PyBuffer_Release(&data);
    PyBuffer_Release(&ops);
    PyBuffer_Release(&null);
    PyBuffer_Release(&header);
    return result;
}
