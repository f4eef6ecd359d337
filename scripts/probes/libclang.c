// Asks a libclang what bindgen will ask: to load, and to parse a header that needs clang's own
// headers. Usage: libclang LIBRARY HEADER; exit code 0 if both succeed, else a line says why.
#include <dlfcn.h>
#include <stdio.h>

#define FIND(type, name, args)                                  \
    type(*name) args = (type(*) args)dlsym(library, "clang_" #name); \
    if (name == NULL) {                                         \
        fprintf(stderr, "%s lacks clang_" #name "\n", argv[1]); \
        return 1;                                               \
    }

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    void *library = dlopen(argv[1], RTLD_NOW);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    FIND(void *, createIndex, (int, int))
    FIND(void *, parseTranslationUnit,
         (void *, const char *, const char *const *, int, void *, unsigned, unsigned))
    FIND(unsigned, getNumDiagnostics, (void *))
    FIND(void *, getDiagnostic, (void *, unsigned))
    FIND(int, getDiagnosticSeverity, (void *))

    void *unit = parseTranslationUnit(createIndex(0, 1), argv[2], NULL, 0, NULL, 0, 0);
    if (unit == NULL) {
        fprintf(stderr, "%s cannot parse %s\n", argv[1], argv[2]);
        return 1;
    }
    for (unsigned i = 0; i < getNumDiagnostics(unit); i++) {
        if (getDiagnosticSeverity(getDiagnostic(unit, i)) >= 3) return 1; // an error; it is printed
    }
    return 0;
}
