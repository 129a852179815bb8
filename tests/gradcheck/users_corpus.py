"""All bugs as users make them, `USERS` and `THIRD`, and right ops and layers beside them, `CONTROLS`: see
`users_planting.py`. `bugs_users_*.py` are a first set, `bugs_second_*.py` a second, `bugs_third_*.py` a third
one; all were written without knowledge of the checker. It has been improved on the first two only."""

import bugs_users_losses  # noqa: F401, I001
import bugs_users_norms  # noqa: F401
import bugs_users_products  # noqa: F401
import bugs_users_rest  # noqa: F401
import bugs_users_sequences  # noqa: F401
import bugs_users_state  # noqa: F401
import bugs_second_losses  # noqa: F401
import bugs_second_norms  # noqa: F401
import bugs_second_products  # noqa: F401
import bugs_second_rest  # noqa: F401
import bugs_second_sequences  # noqa: F401
import bugs_second_state  # noqa: F401
from users_planting import RIGHT, WRONG, UserBug

USERS: list[UserBug] = list(WRONG)

import bugs_third_losses  # noqa: E402, F401
import bugs_third_norms  # noqa: E402, F401
import bugs_third_products  # noqa: E402, F401
import bugs_third_rest  # noqa: E402, F401
import bugs_third_sequences  # noqa: E402, F401


THIRD: list[UserBug] = WRONG[len(USERS) :]
CONTROLS: list[UserBug] = RIGHT
