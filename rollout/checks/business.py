"""Business: levels, points, credits, ratings and subscriptions obey the rules of the platform."""
