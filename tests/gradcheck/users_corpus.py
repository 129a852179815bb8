"""All bugs as users make them, `USERS`, and right ops and layers beside them, `CONTROLS`: see
`users_planting.py`. `bugs_users_*.py` are a first set, `bugs_second_*.py` a second one; both were written
without knowledge of the checker."""

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

USERS: list[UserBug] = WRONG
CONTROLS: list[UserBug] = RIGHT
