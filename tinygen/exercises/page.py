"""docs/exercises.md: `python -m tinygen.exercises.page > docs/exercises.md`."""

from __future__ import annotations

from tinygen.exercises.chapters import CHAPTERS, all_exercises
from tinygen.exercises.command import find
from tinygen.exercises.grade import grade
from tinygen.exercises.source import source_of, with_mistake

TOP = """# Exercises

An exercise is a function of tinygen whose body is taken out. You write it again, and a command says whether
it is right, or what is wrong and where. The function in the library is the solution.

    python -m tinygen exercise                    the list, with what you have done
    python -m tinygen exercise softmax            writes softmax.py: the function without its body
    python -m tinygen exercise softmax --hint 1   a thought; hint 2 is a formula, hint 3 is nearly the code
    python -m tinygen check softmax.py            grades it

They work from an installed tinygen, without its repository; `row_sums`, a kernel for a GPU, needs Numba
(`pip install "tinygen[fast]"`), and runs in its simulator. Files are written to the folder in which you
run the command, and an edited file is never overwritten. `tinygen_exercises.json`, in the same folder,
remembers what is done.

## What a report says

Checks run in order, up to the first that fails. This softmax forgets its `axis`:

REPORT

- **Values** are compared with the results of the library's function. The report has the first wrong entry,
  and what all wrong entries have in common: a factor, a sign, an order, a sum along another axis.
- **Gradients** are checked by [gradcheck](gradcheck.md), which names the input, the kind of mistake, and
  often the missing term.
- Some mistakes are made by many. If your results fit such a mistake, the last line names it.
- An error has the line of your file. A loop that does not end is stopped after 20 seconds.

Your code may be another one than the library's, as long as its results are the same. Bad input need not be
refused.

## The list

"""

BOTTOM = """
## How to add an exercise

Write an `Exercise` into the file of its chapter, `tinygen/exercises/chapters/`, and its name into `CHAPTER`
there. It has the function ("module:name" or "module:Class.method"), three hints, the arguments of its
checks (`given`), the checks (`Values` and `Gradient`), and three mistakes. A mistake replaces a text in the
true body. `tests/exercises/` runs each exercise with its solution, which must pass, and with its three
mistakes: each must fail and be named in the last line of the report. Where the results alone give the mistake
away, its `says` has these words. If the function changes, its mistakes must fit the new body. Then
`python -m tinygen.exercises.page > docs/exercises.md`.
"""


def page() -> str:
    """The text of the page."""
    count = sum(1 for _ in all_exercises())
    lines = [f"{count} exercises in {len(CHAPTERS)} chapters, in the order in which to do them.", ""]
    for chapter in CHAPTERS:
        lines += [f"### {chapter.title}", "", "| exercise | what it is | function |", "|---|---|---|"]
        for exercise in chapter.exercises:
            parts = source_of(exercise)
            place, name = parts.place.partition(":")[0], exercise.source.partition(":")[2]
            lines.append(f"| `{exercise.name}` | {exercise.about} | [`{name}`](../{place}) |")
        lines.append("")
    softmax = find("softmax")
    report = str(grade(softmax, with_mistake(softmax, softmax.mistakes[1]), "softmax.py"))
    top = TOP.replace("REPORT", "\n".join(f"    {line}" for line in report.split("\n")))
    return top + "\n".join(lines).rstrip() + "\n" + BOTTOM


if __name__ == "__main__":
    print(page(), end="")
