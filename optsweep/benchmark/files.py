"""Names of the files in a benchmark's folder."""

ENVIRONMENT_FILE = "environment.json"
LIBRARIES_FILE = "libraries.json"  # BLAS libraries and thread pools of every peer's process
LIMITS_FILE = "limits.csv"
NOTES_FILE = "notes.json"
STARTS_FILE = "startup.csv"
STUDY_FILE = "study.json"
TIMES_FILE = "measurements.csv"
MEASURED_FILES = (
    ENVIRONMENT_FILE,
    LIBRARIES_FILE,
    LIMITS_FILE,
    NOTES_FILE,
    STARTS_FILE,
    STUDY_FILE,
    TIMES_FILE,
)
REPORT_FILE = "benchmark.md"
README_FILE = "readme.md"  # the short tables
SUMMARY_FILE = "benchmark.csv"
